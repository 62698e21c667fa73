// A client by gorilla/websocket; tests/clients/README.md says what it does.
package main

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log"
	"os"

	"client/talk"

	"github.com/gorilla/websocket"
)

func main() {
	talk.Hello("gorilla/websocket", "github.com/gorilla/websocket")
	dialer := websocket.Dialer{EnableCompression: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
	conn, response, err := dialer.Dial(os.Args[1], nil)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("open", response.Header.Get("Sec-Websocket-Extensions"))
	send := func(line []byte, closes bool) error {
		if closes {
			bye := websocket.FormatCloseMessage(websocket.CloseNormalClosure, "")
			return conn.WriteMessage(websocket.CloseMessage, bye)
		}
		return conn.WriteMessage(websocket.TextMessage, line)
	}
	talk.Run(send, func() ([]byte, *talk.Closed, error) {
		_, message, err := conn.ReadMessage()
		var closed *websocket.CloseError
		if errors.As(err, &closed) {
			return nil, &talk.Closed{Code: closed.Code, Reason: closed.Text}, nil
		}
		return message, nil, err
	})
}
