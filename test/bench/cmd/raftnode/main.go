// Raftnode is one of three nodes of bare hashicorp/raft with a bolt log store that
// is set up as the product's, and a thin HTTP front: writes are put into groups,
// reads share questions to the leader. It has no domain, no forwarding of writes,
// and no snapshots.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
	"go.etcd.io/bbolt"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "raftnode:", err)
		os.Exit(1)
	}
}

func run() error {
	self := flag.Int("n", 0, "number of this node, from 0")
	dir := flag.String("dir", "", "data directory")
	rafts := flag.String("raft", "", "HOST:PORT of all nodes for raft, with commas")
	https := flag.String("http", "", "and for clients")
	asks := flag.String("ask", "", "and for the other nodes' questions")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	n := &node{store: newStore(), self: *self, rafts: strings.Split(*rafts, ","), asks: strings.Split(*asks, ",")}
	if err := n.open(*dir); err != nil {
		return err
	}
	go n.follow(ctx) // these end with the process
	go n.writes.run(ctx, n.raft)
	go n.serveQuestions()
	mux := http.NewServeMux()
	mux.HandleFunc("GET /status", n.status)
	mux.HandleFunc("POST /kv/{key}", n.put)
	mux.HandleFunc("GET /kv/{key}", n.get)
	server := &http.Server{Addr: strings.Split(*https, ",")[*self], Handler: mux}
	context.AfterFunc(ctx, func() { _ = server.Close() }) // the process ends
	if err := server.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

type node struct {
	store *store
	raft  *raft.Raft
	self  int
	rafts []string // addresses
	asks  []string

	leads  atomic.Bool // and has committed in its term
	writes groups
	reads  reads
	leader questions
}

// open starts raft; the first node makes the cluster.
func (n *node) open(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	log, err := raftboltdb.New(raftboltdb.Options{
		Path: filepath.Join(dir, "raft.db"), BoltOptions: &bbolt.Options{NoFreelistSync: true, FreelistType: bbolt.FreelistMapType},
	})
	if err != nil {
		return err
	}
	logger := hclog.New(&hclog.LoggerOptions{Level: hclog.Error})
	transport, err := raft.NewTCPTransportWithLogger(n.rafts[n.self], nil, 3, 10*time.Second, logger)
	if err != nil {
		return err
	}
	config := raft.DefaultConfig()
	config.LocalID, config.Logger = raft.ServerID(n.rafts[n.self]), logger
	config.SnapshotThreshold, config.SnapshotInterval = 1<<40, time.Hour // none
	n.writes.waiting = make(chan write, 8192)
	n.reads.ask = n.readIndex
	if n.raft, err = raft.NewRaft(config, n.store, log, log, raft.NewDiscardSnapshotStore(), transport); err != nil || n.self > 0 {
		return err
	}
	var all raft.Configuration
	for _, addr := range n.rafts {
		all.Servers = append(all.Servers, raft.Server{ID: raft.ServerID(addr), Address: raft.ServerAddress(addr)})
	}
	return n.raft.BootstrapCluster(all).Error()
}

// follow notes whether this node leads.
func (n *node) follow(ctx context.Context) {
	for {
		select {
		case up := <-n.raft.LeaderCh():
			n.leads.Store(up && n.raft.Barrier(10*time.Second).Error() == nil)
		case <-ctx.Done():
			return
		}
	}
}

func (n *node) status(w http.ResponseWriter, _ *http.Request) {
	answer(w, map[string]bool{"leads": n.leads.Load()})
}

func (n *node) put(w http.ResponseWriter, r *http.Request) {
	data := []byte(r.FormValue("Data"))
	if !json.Valid(data) {
		http.Error(w, "Data is not JSON", http.StatusBadRequest)
		return
	}
	if err := n.writes.put(appendCommand(nil, r.PathValue("key"), data)); err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	answer(w, document{r.PathValue("key"), "1", data})
}

func (n *node) get(w http.ResponseWriter, r *http.Request) {
	data, err := n.read(r.Context(), r.PathValue("key"))
	if err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	if data == nil {
		http.NotFound(w, r)
		return
	}
	answer(w, document{r.PathValue("key"), "1", data})
}

type document struct {
	Name     string          `json:"unique_name"`
	Revision string          `json:"revision"`
	Data     json.RawMessage `json:"data"`
}

func answer(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v) // the client is gone
}
