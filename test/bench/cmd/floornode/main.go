// Floornode is the floor of fan-out over websockets: what clients send to /pub goes
// to all who are connected to /ws, as a frame that is encoded once, and all that
// waits goes into one write. It has no protocol, no channels and no durability, and
// nobody is read from who only listens.
package main

import (
	"context"
	"crypto/sha1"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"runtime"
	"sync"
	"syscall"

	"github.com/gorilla/websocket"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "floornode:", err)
		os.Exit(1)
	}
}

func run() error {
	addr := flag.String("addr", "", "HOST:PORT to listen on")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var n node
	n.waiting = make(chan []byte, 1024)
	go n.broadcast(ctx) // ends with the process
	mux := http.NewServeMux()
	mux.HandleFunc("/ws", n.listen)
	mux.HandleFunc("/pub", n.publish)
	server := &http.Server{Addr: *addr, Handler: mux}
	context.AfterFunc(ctx, func() { _ = server.Close() }) // the process ends
	if err := server.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

type node struct {
	mu        sync.Mutex
	listeners []net.Conn
	waiting   chan []byte // frames
}

// listen takes a client's connection over, which is only written to.
func (n *node) listen(w http.ResponseWriter, r *http.Request) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	sum := sha1.Sum([]byte(r.Header.Get("Sec-WebSocket-Key") + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11")) // RFC 6455, 1.3
	_, err = fmt.Fprintf(conn, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n\r\n",
		base64.StdEncoding.EncodeToString(sum[:]))
	if err != nil {
		conn.Close()
		return
	}
	n.mu.Lock()
	n.listeners = append(n.listeners, conn)
	n.mu.Unlock()
}

func (n *node) publish(w http.ResponseWriter, r *http.Request) {
	up := websocket.Upgrader{CheckOrigin: func(*http.Request) bool { return true }}
	conn, err := up.Upgrade(w, r, nil)
	if err != nil {
		return // who asked was told
	}
	defer conn.Close()
	for {
		_, message, err := conn.ReadMessage()
		if err != nil {
			return
		}
		n.waiting <- frame(message)
	}
}

// broadcast writes all that waits to all, again and again.
func (n *node) broadcast(ctx context.Context) {
	for {
		var frames []byte
		select {
		case frames = <-n.waiting:
		case <-ctx.Done():
			return
		}
		for more := true; more; {
			select {
			case f := <-n.waiting:
				frames = append(frames, f...)
			default:
				more = false
			}
		}
		n.mu.Lock()
		all := n.listeners[:len(n.listeners):len(n.listeners)]
		n.mu.Unlock()
		var writers sync.WaitGroup
		parts := runtime.GOMAXPROCS(0)
		for p := range parts {
			writers.Go(func() {
				for _, conn := range all[len(all)*p/parts : len(all)*(p+1)/parts] {
					if _, err := conn.Write(frames); err != nil {
						conn.Close()
					}
				}
			})
		}
		writers.Wait()
	}
}

// frame returns a text message as a frame.
func frame(message []byte) []byte {
	b := []byte{0x80 | websocket.TextMessage}
	if n := len(message); n < 126 {
		b = append(b, byte(n))
	} else {
		b = binary.BigEndian.AppendUint16(append(b, 126), uint16(n))
	}
	return append(b, message...)
}
