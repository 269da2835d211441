package main

import (
	"context"
	"encoding/binary"
	"io"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// store keeps the newest value of each key.
type store struct {
	mu     sync.RWMutex
	values map[string][]byte
}

func newStore() *store { return &store{values: make(map[string][]byte)} }

// appendCommand appends a command: the lengths of key and value, and both.
func appendCommand(b []byte, key string, value []byte) []byte {
	b = binary.LittleEndian.AppendUint16(b, uint16(len(key)))
	b = binary.LittleEndian.AppendUint32(b, uint32(len(value)))
	return append(append(b, key...), value...)
}

// Apply implements raft.FSM.
func (s *store) Apply(log *raft.Log) any {
	s.mu.Lock()
	defer s.mu.Unlock()
	for b := log.Data; len(b) > 6; {
		key, value := int(binary.LittleEndian.Uint16(b)), int(binary.LittleEndian.Uint32(b[2:]))
		b = b[6:]
		s.values[string(b[:key])] = b[key : key+value]
		b = b[key+value:]
	}
	return nil
}

func (s *store) get(key string) []byte {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.values[key]
}

// Snapshot implements raft.FSM. No snapshot is ever due.
func (s *store) Snapshot() (raft.FSMSnapshot, error) { return s, nil }

// Persist implements raft.FSMSnapshot.
func (*store) Persist(sink raft.SnapshotSink) error { return sink.Close() }

// Release implements raft.FSMSnapshot.
func (*store) Release() {}

// Restore implements raft.FSM.
func (*store) Restore(r io.ReadCloser) error { return r.Close() }

// groups puts the commands that wait into one log entry, with two entries under way
// at most.
type groups struct{ waiting chan write }

type write struct {
	command []byte
	done    chan error
}

const (
	groupSize = 256
	underWay  = 2
)

func (g *groups) put(command []byte) error {
	w := write{command, make(chan error, 1)}
	g.waiting <- w
	return <-w.done
}

func (g *groups) run(ctx context.Context, r *raft.Raft) {
	places := make(chan struct{}, underWay)
	for {
		var first write
		select {
		case first = <-g.waiting:
		case <-ctx.Done():
			return
		}
		places <- struct{}{}
		entry, writes := append([]byte(nil), first.command...), []write{first}
		for more := true; more && len(writes) < groupSize; {
			select {
			case w := <-g.waiting:
				entry, writes = append(entry, w.command...), append(writes, w)
			default:
				more = false
			}
		}
		applied := r.Apply(entry, 5*time.Second)
		go func() { // ends with the entry
			err := applied.Error()
			<-places
			for _, w := range writes {
				w.done <- err
			}
		}()
	}
}
