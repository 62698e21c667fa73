// A client by gorilla/websocket; tests/clients/README.md says what it does.
package main

import (
	"bufio"
	"crypto/tls"
	"errors"
	"fmt"
	"log"
	"os"
	"runtime/debug"

	"github.com/gorilla/websocket"
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

func main() {
	fmt.Println("hello gorilla/websocket", version("github.com/gorilla/websocket"))
	dialer := websocket.Dialer{EnableCompression: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
	conn, response, err := dialer.Dial(os.Args[1], nil)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("open", response.Header.Get("Sec-Websocket-Extensions"))
	go func() {
		for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
			kind, text := websocket.TextMessage, lines.Bytes()
			if lines.Text() == "CLOSE" {
				kind, text = websocket.CloseMessage, websocket.FormatCloseMessage(websocket.CloseNormalClosure, "")
			}
			if err := conn.WriteMessage(kind, text); err != nil {
				return
			}
		}
	}()
	for {
		_, message, err := conn.ReadMessage()
		var closed *websocket.CloseError
		if errors.As(err, &closed) {
			fmt.Println("close", closed.Code, closed.Text)
			return
		}
		if err != nil {
			log.Fatal(err)
		}
		fmt.Printf("< %s\n", message)
	}
}
