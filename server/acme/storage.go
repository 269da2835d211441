package acme

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/caddyserver/certmagic"

	"lockstep/fsm"
	"lockstep/fsm/commandid"
)

// Vault is what this package needs of the cluster.
type Vault interface {
	Propose(ctx context.Context, c *fsm.Command) (*fsm.Result, error)
	Read(ctx context.Context) (*fsm.View, error) // at a linearizable point
	Wait(ctx context.Context, index uint64) (*fsm.View, error)
	Seal(name string, plain []byte) (fsm.KeyID, []byte, error)
	Unseal(s *fsm.Sealed) ([]byte, error)
}

// storage is certmagic.Storage over the vault: what one node stores all have.
type storage struct {
	vault Vault
	log   *slog.Logger

	life  context.Context // the leases that are held are made longer until it ends
	leash sync.WaitGroup

	mu   sync.Mutex
	held map[string]lease
}

// lease is one that this process holds.
type lease struct {
	holder string
	stop   context.CancelFunc
}

// prefix of the names in the vault: others may keep other things there.
const prefix = "acme/"

const (
	leaseTime   = time.Minute // after which a node that is gone holds it no more
	leaseExtend = leaseTime / 4
	leasePoll   = 500 * time.Millisecond

	timeout = 20 * time.Second // of one operation
)

func newStorage(life context.Context, v Vault, log *slog.Logger) *storage {
	return &storage{vault: v, log: log, life: life, held: make(map[string]lease)}
}

// propose returns a view in which the operation was applied.
func (s *storage) propose(ctx context.Context, op fsm.Op) (*fsm.View, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	r, err := s.vault.Propose(ctx, &fsm.Command{ID: commandid.New(), Op: op})
	if err != nil {
		return nil, err
	}
	if r.Err != nil {
		return nil, r.Err
	}
	return s.vault.Wait(ctx, r.Index)
}

func (s *storage) read(ctx context.Context) (*fsm.View, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	return s.vault.Read(ctx)
}

// Store implements certmagic.Storage.
func (s *storage) Store(ctx context.Context, key string, value []byte) error {
	id, data, err := s.vault.Seal(prefix+key, value)
	if err == nil {
		_, err = s.propose(ctx, &fsm.StoreSealed{Name: prefix + key, Key: id, Data: data})
	}
	if err != nil {
		return fmt.Errorf("store %s: %w", key, err)
	}
	return nil
}

// Load implements certmagic.Storage. What cannot be opened is not there: it is made
// anew.
func (s *storage) Load(ctx context.Context, key string) ([]byte, error) {
	v, err := s.read(ctx)
	if err != nil {
		return nil, fmt.Errorf("load %s: %w", key, err)
	}
	sealed, ok := v.Sealed(prefix + key)
	if !ok {
		return nil, fs.ErrNotExist
	}
	plain, err := s.vault.Unseal(sealed)
	if err != nil {
		s.log.Error("something of the certificate cannot be opened", "name", key, "error", err)
		return nil, fmt.Errorf("%w: %w", fs.ErrNotExist, err)
	}
	return plain, nil
}

// Delete implements certmagic.Storage.
func (s *storage) Delete(ctx context.Context, key string) error {
	if _, err := s.propose(ctx, &fsm.RemoveSealed{Name: prefix + key}); err != nil {
		return fmt.Errorf("delete %s: %w", key, err)
	}
	return nil
}

// Exists implements certmagic.Storage.
func (s *storage) Exists(ctx context.Context, key string) bool {
	_, err := s.Stat(ctx, key)
	return err == nil
}

// List implements certmagic.Storage.
func (s *storage) List(ctx context.Context, path string, recursive bool) ([]string, error) {
	v, err := s.read(ctx)
	if err != nil {
		return nil, fmt.Errorf("list %s: %w", path, err)
	}
	below := prefix
	if path = strings.Trim(path, "/"); path != "" {
		below += path + "/"
	}
	var keys []string
	found := false
	v.EachSealed(func(x *fsm.Sealed) bool {
		rest, ok := strings.CutPrefix(x.Name, below)
		if !ok {
			return true
		}
		found = true
		if !recursive {
			rest, _, _ = strings.Cut(rest, "/")
		}
		key := strings.TrimPrefix(below+rest, prefix)
		if len(keys) == 0 || keys[len(keys)-1] != key {
			keys = append(keys, key)
		}
		return true
	})
	if !found {
		return nil, fs.ErrNotExist
	}
	return keys, nil
}

// Stat implements certmagic.Storage.
func (s *storage) Stat(ctx context.Context, key string) (certmagic.KeyInfo, error) {
	v, err := s.read(ctx)
	if err != nil {
		return certmagic.KeyInfo{}, fmt.Errorf("look at %s: %w", key, err)
	}
	if x, ok := v.Sealed(prefix + key); ok {
		return certmagic.KeyInfo{Key: key, Modified: time.UnixMilli(x.Modified), Size: int64(len(x.Data)), IsTerminal: true}, nil
	}
	directory := false
	v.EachSealed(func(x *fsm.Sealed) bool {
		directory = strings.HasPrefix(x.Name, prefix+key+"/")
		return !directory
	})
	if !directory {
		return certmagic.KeyInfo{}, fs.ErrNotExist
	}
	return certmagic.KeyInfo{Key: key}, nil
}

// Lock implements certmagic.Locker: it waits for the lease, and makes it longer until
// Unlock.
func (s *storage) Lock(ctx context.Context, name string) error {
	holder := make([]byte, 16)
	rand.Read(holder) // never fails
	l := lease{holder: hex.EncodeToString(holder)}
	for {
		taken, err := s.take(ctx, name, l.holder)
		if err != nil {
			return fmt.Errorf("lock %s: %w", name, err)
		}
		if taken {
			break
		}
		select {
		case <-time.After(leasePoll):
		case <-ctx.Done():
			return ctx.Err()
		case <-s.life.Done():
			return s.life.Err()
		}
	}
	var held context.Context
	held, l.stop = context.WithCancel(s.life)
	s.mu.Lock()
	s.held[name] = l
	s.mu.Unlock()
	s.leash.Go(func() { s.extend(held, name, l.holder) })
	return nil
}

func (s *storage) take(ctx context.Context, name, holder string) (bool, error) {
	v, err := s.propose(ctx, &fsm.TakeLease{Name: prefix + name, Holder: holder, Millis: leaseTime.Milliseconds()})
	if err != nil {
		return false, err
	}
	return v.Lease(prefix+name).Holder == holder, nil
}

func (s *storage) extend(ctx context.Context, name, holder string) {
	tick := time.NewTicker(leaseExtend)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		if _, err := s.take(ctx, name, holder); err != nil && ctx.Err() == nil {
			s.log.Warn("the lease on the certificate was not made longer", "name", name, "error", err)
		}
	}
}

var errNotLocked = errors.New("it is not locked")

// Unlock implements certmagic.Locker.
func (s *storage) Unlock(ctx context.Context, name string) error {
	s.mu.Lock()
	l, ok := s.held[name]
	delete(s.held, name)
	s.mu.Unlock()
	if !ok {
		return fmt.Errorf("unlock %s: %w", name, errNotLocked)
	}
	l.stop()
	if _, err := s.propose(context.WithoutCancel(ctx), &fsm.EndLease{Name: prefix + name, Holder: l.holder}); err != nil {
		return fmt.Errorf("unlock %s: %w", name, err)
	}
	return nil
}

// close waits for what makes leases longer; life has ended before.
func (s *storage) close() { s.leash.Wait() }
