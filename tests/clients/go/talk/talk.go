// Package talk has what the talk programs share; tests/clients/README.md says what they do.
package talk

import (
	"bufio"
	"fmt"
	"log"
	"os"
	"runtime/debug"
)

// Closed is the close frame that the server sent.
type Closed struct {
	Code   int
	Reason string
}

// Hello prints the name of the library and the version of its module.
func Hello(name, path string) {
	version := "?"
	info, _ := debug.ReadBuildInfo()
	for _, module := range info.Deps {
		if module.Path == path {
			version = module.Version
		}
	}
	fmt.Println("hello", name, version)
}

// Run sends the lines of standard input, and prints what is read until the server closes. `send` gets a line and
// whether it is to close the connection instead.
func Run(send func(line []byte, closes bool) error, read func() ([]byte, *Closed, error)) {
	go func() {
		for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
			if send(lines.Bytes(), lines.Text() == "CLOSE") != nil {
				return
			}
		}
	}()
	for {
		message, closed, err := read()
		if closed != nil {
			fmt.Println("close", closed.Code, closed.Reason)
			return
		}
		if err != nil {
			log.Fatal(err)
		}
		fmt.Printf("< %s\n", message)
	}
}
