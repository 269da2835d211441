// Natsnode is one NATS server with JetStream, in a cluster of three.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "natsnode:", err)
		os.Exit(1)
	}
}

func run() error {
	o := &server.Options{Host: "127.0.0.1", JetStream: true, NoSigs: true, SyncAlways: true, MaxConn: 20_000}
	flag.StringVar(&o.ServerName, "name", "", "name of the server")
	flag.StringVar(&o.StoreDir, "dir", "", "data directory")
	flag.IntVar(&o.Port, "port", 0, "port for clients")
	others := flag.Int("cluster-port", 0, "port for the other servers")
	ws := flag.Int("ws-port", 0, "port for websockets")
	routes := flag.String("routes", "", "URLs of the servers, with commas")
	flag.Parse()
	o.Cluster = server.ClusterOpts{Name: "bench", Host: o.Host, Port: *others}
	o.Websocket = server.WebsocketOpts{Host: o.Host, Port: *ws, NoTLS: true}
	o.Routes = server.RoutesFromStr(*routes)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	s, err := server.NewServer(o)
	if err != nil {
		return err
	}
	s.ConfigureLogger()
	s.Start()
	defer s.WaitForShutdown()
	defer s.Shutdown()
	if !s.ReadyForConnections(20 * time.Second) {
		return errors.New("the server does not start")
	}
	<-ctx.Done()
	return nil
}
