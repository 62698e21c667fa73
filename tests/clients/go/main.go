// A client with permessage-deflate, for tests/wire/clients.rs, which says what it has to do.
package main

import (
	"fmt"
	"log"
	"os"
	"strconv"
	"strings"

	"github.com/gorilla/websocket"
)

func main() {
	log.SetFlags(0)
	count, err := strconv.Atoi(os.Args[2])
	check(err)
	dialer := websocket.Dialer{EnableCompression: true}
	conn, response, err := dialer.Dial(os.Args[1], nil)
	check(err)
	defer conn.Close()
	fmt.Println(response.Header.Get("Sec-Websocket-Extensions"))
	for _, spec := range []string{"*.*.*", "a.b." + strings.Repeat("c", 3000)} {
		check(conn.WriteMessage(websocket.TextMessage, []byte("register "+spec)))
		show(conn)
	}
	for range count {
		show(conn)
	}
	check(conn.WriteMessage(websocket.CloseMessage, websocket.FormatCloseMessage(websocket.CloseNormalClosure, "")))
	_, _, err = conn.ReadMessage()
	if !websocket.IsCloseError(err, websocket.CloseNormalClosure) {
		log.Fatal(err)
	}
}

func show(conn *websocket.Conn) {
	_, message, err := conn.ReadMessage()
	check(err)
	fmt.Printf("%s\n", message)
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
