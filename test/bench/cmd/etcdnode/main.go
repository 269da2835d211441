// Etcdnode is one member of etcd, embedded, with all it does for durability.
package main

import (
	"context"
	"flag"
	"fmt"
	"net/url"
	"os"
	"os/signal"
	"syscall"

	"go.etcd.io/etcd/server/v3/embed"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "etcdnode:", err)
		os.Exit(1)
	}
}

func run() error {
	config := embed.NewConfig()
	config.LogLevel = "error"
	config.QuotaBackendBytes = 8 << 30
	flag.StringVar(&config.Name, "name", "", "name of the member")
	flag.StringVar(&config.Dir, "dir", "", "data directory")
	flag.StringVar(&config.InitialCluster, "cluster", "", "all members, as name=peer URL, with commas")
	client := flag.String("client", "", "URL for clients")
	peer := flag.String("peer", "", "URL for the other members")
	flag.Parse()
	clientURL, err := url.Parse(*client)
	if err != nil {
		return err
	}
	peerURL, err := url.Parse(*peer)
	if err != nil {
		return err
	}
	config.ListenClientUrls, config.AdvertiseClientUrls = []url.URL{*clientURL}, []url.URL{*clientURL}
	config.ListenPeerUrls, config.AdvertisePeerUrls = []url.URL{*peerURL}, []url.URL{*peerURL}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	e, err := embed.StartEtcd(config)
	if err != nil {
		return err
	}
	defer e.Close()
	select {
	case <-ctx.Done():
		return nil
	case err := <-e.Err():
		return err
	}
}
