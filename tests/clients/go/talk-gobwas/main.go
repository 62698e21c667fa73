// A client by gobwas/ws; tests/clients/README.md says what it does.
package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"sync"

	"client/talk"

	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsutil"
)

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
	talk.Hello("gobwas/ws", "github.com/gobwas/ws")
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
	send := func(line []byte, closes bool) error {
		frame := ws.NewTextFrame(line)
		if closes {
			frame = ws.NewCloseFrame(ws.NewCloseFrameBody(ws.StatusNormalClosure, ""))
		}
		return ws.WriteFrame(both, ws.MaskFrame(frame))
	}
	talk.Run(send, func() ([]byte, *talk.Closed, error) {
		message, err := wsutil.ReadServerText(both)
		var closed wsutil.ClosedError
		if errors.As(err, &closed) {
			return nil, &talk.Closed{Code: int(closed.Code), Reason: closed.Reason}, nil
		}
		return message, nil, err
	})
}
