// Prints events from hydrant (or a DRP endpoint) as they happen: go run . SPEC...
// After a lost connection hydrant sends what happened meanwhile; a DRP endpoint does not.
package main

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"math/rand"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/gorilla/websocket"
)

const (
	// Without any frame for so long a connection counts as lost: the server pings every 25 s.
	silence = 90 * time.Second
	// A later connection asks for so much more than it needs: another node has another order and another clock. So a
	// few events may come that are older than this program.
	overlap = 5 * time.Second
	// How far ahead a clock may be, and how many events are known again.
	ahead = 4 * time.Minute
	known = 65536
)

// event holds what this program looks at; Object stays text, so that nothing is lost in it.
type event struct {
	Time, Type, Action, Key string
	Object                  json.RawMessage
}

// events is what was shown, so that the next connection goes on where the last one ended.
type events struct {
	began, last time.Time
	shown       []uint64
	old         map[uint64]int
}

// connected notes a new connection; date is the header of the server's answer.
func (e *events) connected(date string) {
	if at, err := http.ParseTime(date); e.began.IsZero() && err == nil {
		e.began = at
	} else if e.began.IsZero() {
		e.began = time.Now()
	}
	e.old = map[uint64]int{}
	for _, digest := range e.shown {
		e.old[digest]++
	}
}

func (e *events) since() string {
	if e.began.IsZero() {
		return ""
	}
	at := e.last
	if at.Before(e.began) {
		at = e.began
	}
	return "?since=" + at.Add(-overlap).UTC().Format(time.RFC3339Nano)
}

// take shows an event, unless it was shown before.
func (e *events) take(frame []byte, at string) {
	digest := fnv.New64a()
	digest.Write(frame)
	if e.old[digest.Sum64()] > 0 {
		e.old[digest.Sum64()]--
		return
	}
	e.shown = append(e.shown, digest.Sum64())
	if len(e.shown) > known {
		e.shown = e.shown[1:]
	}
	now := time.Now()
	if when, err := time.Parse(time.RFC3339Nano, at); err == nil && when.Unix() > 0 && when.Before(now.Add(ahead)) {
		e.last = when
		if when.After(now) {
			e.last = now
		}
	}
	fmt.Printf("%s\n", frame)
}

// final is an error that trying again would not help against.
type final struct{ error }

func variable(name, otherwise string) string {
	if value := os.Getenv(name); value != "" {
		return value
	}
	return otherwise
}

func authorization() string {
	if token := os.Getenv("RS_TOKEN"); token != "" {
		return "Bearer " + token
	}
	key := variable("RS_KEY", "rocketskates:r0cketsk8ts")
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(key))
}

func tlsConfig() (*tls.Config, error) {
	file := os.Getenv("RS_CACERT")
	if file == "" {
		// As drpcli does: DRP endpoints sign their own certificates.
		return &tls.Config{InsecureSkipVerify: true}, nil
	}
	pem, err := os.ReadFile(file)
	if err != nil {
		return nil, final{err}
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return nil, final{fmt.Errorf("%s: no certificate in it", file)}
	}
	return &tls.Config{RootCAs: roots}, nil
}

func connect(shown *events) (*websocket.Conn, error) {
	config, err := tlsConfig()
	if err != nil {
		return nil, err
	}
	endpoint := strings.TrimRight(variable("RS_ENDPOINT", "https://127.0.0.1:8092"), "/")
	url := "ws" + strings.TrimPrefix(endpoint, "http") + "/api/v3/ws" + shown.since()
	dialer := websocket.Dialer{TLSClientConfig: config, HandshakeTimeout: 10 * time.Second}
	conn, response, err := dialer.Dial(url, http.Header{"Authorization": {authorization()}})
	if response == nil {
		return nil, err
	} else if err == nil {
		shown.connected(response.Header.Get("Date"))
		conn.SetPingHandler(func(data string) error {
			conn.SetReadDeadline(time.Now().Add(silence))
			return conn.WriteControl(websocket.PongMessage, []byte(data), time.Now().Add(silence))
		})
		return conn, nil
	}
	status := response.StatusCode
	err = fmt.Errorf("refused: %s", response.Status)
	if status >= 400 && status < 500 && status != http.StatusRequestTimeout && status != http.StatusTooManyRequests {
		err = final{err}
	}
	return nil, err
}

// watch holds one connection: it registers, then prints until the connection is lost.
func watch(specs []string, shown *events) error {
	conn, err := connect(shown)
	if err != nil {
		return err
	}
	defer conn.Close()
	for _, spec := range specs {
		if err := conn.WriteMessage(websocket.TextMessage, []byte("register "+spec)); err != nil {
			return err
		}
	}
	for answers := 0; ; {
		conn.SetReadDeadline(time.Now().Add(silence))
		_, frame, err := conn.ReadMessage()
		// Codes after which trying again would not help: docs/protocol.md, section 8.
		if websocket.IsCloseError(err, 1002, 1003, 1007, 1008, 1009) {
			return final{err}
		} else if err != nil {
			return err
		}
		var e event
		if err := json.Unmarshal(frame, &e); err != nil {
			return final{err}
		}
		if e.Type != "websocket" {
			shown.take(frame, e.Time)
			continue
		}
		if answers++; e.Action == "error" {
			return final{fmt.Errorf("%s: %s", e.Key, e.Object)}
		} else if answers == len(specs) {
			fmt.Fprintln(os.Stderr, "registered; now is the time to read the present state")
		}
	}
}

func main() {
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, "usage: watch SPEC...   such as 'machines.update.*'")
		os.Exit(64)
	}
	shown := &events{}
	for failures := 0; ; failures = min(failures+1, 16) {
		started := time.Now()
		err := watch(os.Args[1:], shown)
		if errors.As(err, new(final)) {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		if time.Since(started) > 10*time.Second {
			failures = 0
		}
		ceiling := min(30*time.Second, 500*time.Millisecond<<failures)
		wait := time.Duration(rand.Int63n(int64(ceiling)))
		fmt.Fprintf(os.Stderr, "%v; retrying in %.1f s\n", err, wait.Seconds())
		time.Sleep(wait)
	}
}
