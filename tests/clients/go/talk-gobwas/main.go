// A client by gobwas/ws; tests/clients/README.md says what it does.
package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"runtime/debug"
	"sync"

	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsutil"
)

func version(path string) string {
	info, _ := debug.ReadBuildInfo()
	for _, module := range info.Deps {
		if module.Path == path {
			return module.Version
		}
	}
	return "?"
}

// What is read may have come with the answer to the handshake; pongs and texts are written by two goroutines.
type duplex struct {
	io.Reader
	mutex sync.Mutex
	conn  io.Writer
}

func (d *duplex) Write(bytes []byte) (int, error) {
	d.mutex.Lock()
	defer d.mutex.Unlock()
	return d.conn.Write(bytes)
}

func main() {
	fmt.Println("hello gobwas/ws", version("github.com/gobwas/ws"))
	dialer := ws.Dialer{TLSConfig: &tls.Config{InsecureSkipVerify: true}}
	conn, early, _, err := dialer.Dial(context.Background(), os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	both := &duplex{Reader: conn, conn: conn}
	if early != nil {
		both.Reader = io.MultiReader(early, conn)
	}
	fmt.Println("open ")
	go func() {
		for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
			frame := ws.NewTextFrame(lines.Bytes())
			if lines.Text() == "CLOSE" {
				frame = ws.NewCloseFrame(ws.NewCloseFrameBody(ws.StatusNormalClosure, ""))
			}
			if err := ws.WriteFrame(both, ws.MaskFrame(frame)); err != nil {
				return
			}
		}
	}()
	for {
		message, err := wsutil.ReadServerText(both)
		var closed wsutil.ClosedError
		if errors.As(err, &closed) {
			fmt.Println("close", int(closed.Code), closed.Reason)
			return
		}
		if err != nil {
			log.Fatal(err)
		}
		fmt.Printf("< %s\n", message)
	}
}
