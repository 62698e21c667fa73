// A session as drpcli 4.8 has it, with the libraries that it uses: net/http and gorilla/websocket. For tests of `make
// gorilla`.
//
// usage: session ENDPOINT USER PASSWORD MACHINE
// A token of another server first, as it stands in the cache; the password; a longer token; info; `machines wait` with
// two registrations on one socket; `events post`, whose event has to come back on it. Prints "ok".
package main

import (
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"strings"

	"github.com/gorilla/websocket"
)

type session struct {
	endpoint, authorization string
	client                  *http.Client
}

// What drpcli reads of an answer: an error is an object with Messages, everything else is JSON or it fails.
func (s *session) ask(method, path, body string, into any) int {
	request, err := http.NewRequest(method, s.endpoint+"/api/v3/"+path, strings.NewReader(body))
	check(err)
	request.Header.Set("Authorization", s.authorization)
	request.Header.Set("Accept", "application/json")
	request.Header.Set("Cache-Control", "no-store")
	if body != "" {
		request.Header.Set("Content-Type", "application/json")
	}
	response, err := s.client.Do(request)
	check(err)
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	check(err)
	if response.StatusCode < 400 {
		if kind := response.Header.Get("Content-Type"); !strings.HasPrefix(kind, "application/json") {
			log.Fatalf("%s: cannot handle content-type %q", path, kind)
		}
		if into != nil {
			check(json.Unmarshal(text, into))
		}
	}
	return response.StatusCode
}

func (s *session) must(method, path, body string, into any, status int) {
	if got := s.ask(method, path, body, into); got != status {
		log.Fatalf("%s %s: %d", method, path, got)
	}
}

type event struct{ Type, Action, Key string }

func main() {
	log.SetFlags(0)
	endpoint, user, password, machine := os.Args[1], os.Args[2], os.Args[3], os.Args[4]
	insecure := &tls.Config{InsecureSkipVerify: true}
	s := &session{endpoint: endpoint, client: &http.Client{Transport: &http.Transport{TLSClientConfig: insecure}}}

	s.authorization = "Bearer b3RoZXI="
	if status := s.ask("GET", "info", "", nil); status < 400 {
		log.Fatalf("a token of another server: %d", status)
	}
	var token struct{ Token string }
	request, _ := http.NewRequest("GET", "/", nil)
	request.SetBasicAuth(user, password)
	s.authorization = request.Header.Get("Authorization")
	s.must("GET", "users/"+user+"/token", "", &token, 200)
	s.authorization = "Bearer " + token.Token
	s.must("GET", "users/"+user+"/token?ttl=7200", "", &token, 200)
	var info struct{ Features []string }
	s.must("GET", "info", "", &info, 200)
	if len(info.Features) == 0 {
		log.Fatal("info has no features")
	}

	dialer := websocket.Dialer{TLSClientConfig: insecure}
	header := http.Header{"Authorization": {s.authorization}, "Origin": {endpoint}}
	conn, _, err := dialer.Dial(strings.Replace(endpoint, "http", "ws", 1)+"/api/v3/ws", header)
	check(err)
	defer conn.Close()
	specs := []string{"machines.update." + machine, "machines.save." + machine}
	command(conn, "register", specs)
	posted := `{"Time":"0001-01-01T00:00:00Z","Type":"machines","Action":"save","Key":"` + machine +
		`","Principal":"","Object":null,"Original":null}`
	s.must("POST", "events", posted, nil, 204)
	if got := read(conn); got != (event{"machines", "save", machine}) {
		log.Fatalf("not the event posted: %v", got)
	}
	command(conn, "deregister", specs)
	check(conn.WriteMessage(websocket.CloseMessage, websocket.FormatCloseMessage(websocket.CloseNormalClosure, "")))
	if _, _, err = conn.ReadMessage(); !websocket.IsCloseError(err, websocket.CloseNormalClosure) {
		log.Fatal(err)
	}
	fmt.Println("ok")
}

// Sends all, then counts one answer for each.
func command(conn *websocket.Conn, verb string, specs []string) {
	for _, spec := range specs {
		check(conn.WriteMessage(websocket.TextMessage, []byte(verb+" "+spec)))
	}
	for _, spec := range specs {
		if got := read(conn); got != (event{"websocket", verb, spec}) {
			log.Fatalf("not an answer to %s %s: %v", verb, spec, got)
		}
	}
}

func read(conn *websocket.Conn) (got event) {
	_, message, err := conn.ReadMessage()
	check(err)
	check(json.Unmarshal(message, &got))
	return got
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
