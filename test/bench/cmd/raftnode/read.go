package main

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"log"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

var errNoLeader = errors.New("there is no leader")

// read reads linearizably.
func (n *node) read(ctx context.Context, key string) ([]byte, error) {
	index, err := n.reads.index()
	if err != nil {
		return nil, err
	}
	for n.raft.AppliedIndex() < index {
		select {
		case <-time.After(50 * time.Microsecond):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	return n.store.get(key), nil
}

// readIndex returns an index that whoever asks now may read at.
func (n *node) readIndex() (uint64, error) {
	if n.raft.State() == raft.Leader {
		return n.ownIndex()
	}
	addr, _ := n.raft.LeaderWithID()
	i := slices.Index(n.rafts, string(addr))
	if i < 0 {
		return 0, errNoLeader
	}
	return n.leader.ask(n.asks[i])
}

// ownIndex is the leader's: first the index, then the proof that it leads.
func (n *node) ownIndex() (uint64, error) {
	if !n.leads.Load() {
		return 0, errNoLeader
	}
	index := n.raft.CommitIndex()
	return index, n.raft.VerifyLeader().Error()
}

// reads has all reads that wait share one question.
type reads struct {
	ask func() (uint64, error)

	mu      sync.Mutex
	waiting []chan outcome
	asking  bool
}

type outcome struct {
	index uint64
	err   error
}

func (r *reads) index() (uint64, error) {
	c := make(chan outcome, 1)
	r.mu.Lock()
	r.waiting = append(r.waiting, c)
	if !r.asking {
		r.asking = true
		go r.run() // ends when nobody waits
	}
	r.mu.Unlock()
	o := <-c
	return o.index, o.err
}

func (r *reads) run() {
	for {
		r.mu.Lock()
		waiting := r.waiting
		r.waiting = nil
		r.asking = len(waiting) > 0
		r.mu.Unlock()
		if len(waiting) == 0 {
			return
		}
		index, err := r.ask()
		for _, c := range waiting {
			c <- outcome{index, err}
		}
	}
}

// questions asks the leader for its index over one connection, one at a time.
type questions struct {
	mu   sync.Mutex
	addr string
	conn net.Conn
}

const questionTime = 2 * time.Second

// ask sends a byte, and gets eight: the index, or zero.
func (q *questions) ask(addr string) (uint64, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	index, err := q.exchange(addr)
	if err != nil && q.conn != nil {
		err = errors.Join(err, q.conn.Close())
		q.conn = nil
	}
	if err == nil && index == 0 {
		err = errNoLeader
	}
	return index, err
}

func (q *questions) exchange(addr string) (uint64, error) {
	if q.conn != nil && q.addr != addr {
		if err := q.conn.Close(); err != nil {
			return 0, err
		}
		q.conn = nil
	}
	if q.conn == nil {
		conn, err := net.DialTimeout("tcp", addr, questionTime)
		if err != nil {
			return 0, err
		}
		q.conn, q.addr = conn, addr
	}
	if err := q.conn.SetDeadline(time.Now().Add(questionTime)); err != nil {
		return 0, err
	}
	if _, err := q.conn.Write([]byte{1}); err != nil {
		return 0, err
	}
	var b [8]byte
	_, err := io.ReadFull(q.conn, b[:])
	return binary.LittleEndian.Uint64(b[:]), err
}

// serveQuestions answers the other nodes' questions.
func (n *node) serveQuestions() {
	l, err := net.Listen("tcp", n.asks[n.self])
	if err != nil {
		log.Fatal(err)
	}
	for {
		conn, err := l.Accept()
		if err != nil {
			log.Fatal(err)
		}
		go n.answerQuestions(conn) // ends with the connection
	}
}

func (n *node) answerQuestions(conn net.Conn) {
	defer conn.Close()
	var b [8]byte
	for {
		if _, err := io.ReadFull(conn, b[:1]); err != nil {
			return
		}
		index, err := n.reads.index()
		if err != nil {
			index = 0
		}
		binary.LittleEndian.PutUint64(b[:], index)
		if _, err := conn.Write(b[:]); err != nil {
			return
		}
	}
}
