package server

import (
	"context"
	"errors"
	"io"

	"lockstep/cluster"
	"lockstep/objects"
	"lockstep/server/admin"
	"lockstep/server/backup"
)

// backups makes backups of the cluster's state, as this node has it.
type backups struct {
	cluster *cluster.Node
	config  Config
	room    *diskRoom
	slot    chan struct{} // taken while one is made for an operator
}

func newBackups(n *cluster.Node, c Config, room *diskRoom) *backups {
	return &backups{cluster: n, config: c, room: room, slot: make(chan struct{}, 1)}
}

// errNoRoom: a backup would take room on the disk that is kept for other things.
var errNoRoom = errors.New("the disk of the data directory has less than --disk-reserve free")

func (b *backups) hasRoom() error {
	if b.room.short() {
		return errNoRoom
	}
	return nil
}

// schedule returns what makes this node's own backups; nil if it makes none.
func (b *backups) schedule(m *metrics) *backup.Schedule {
	if b.config.Backups.Dir == "" {
		return nil
	}
	return backup.NewSchedule(backup.Config{
		Plan: b.config.Backups, ClusterID: b.cluster.ClusterID(), Node: b.cluster.ID(), Release: b.config.Version,
		Capture: b.cluster.Capture, Room: b.hasRoom, Clock: b.config.Clock, Logger: b.config.Logger, Metrics: m.registry,
	})
}

// forOperator makes one backup at a time. It is written to the disk first: how fast
// the operator takes it then costs no memory.
func (b *backups) forOperator(ctx context.Context) (admin.Backup, error) {
	select {
	case b.slot <- struct{}{}:
	default:
		return admin.Backup{}, objects.ErrUnavailable.With("This node is making a backup already")
	}
	release := func() { <-b.slot }
	origin := backup.Origin{Node: b.cluster.ID(), Release: b.config.Version, At: b.config.Clock()}
	file, size, err := backup.Spool(b.config.DataDir, func(w io.Writer) error {
		state, err := b.cluster.Capture(ctx)
		if err != nil {
			return err
		}
		return backup.Write(backup.Heeding(ctx, w, b.hasRoom), origin, state)
	})
	if err != nil {
		release()
		if errors.Is(err, errNoRoom) {
			return admin.Backup{}, objects.ErrDiskFull.With("No backup was made: %v", err)
		}
		return admin.Backup{}, refusal(err)
	}
	return admin.Backup{Size: size, Content: &spooled{file, release}}, nil
}

// spooled lets the next backup be made when it is closed.
type spooled struct {
	io.ReadCloser
	release func()
}

// Close implements io.Closer.
func (s *spooled) Close() error {
	defer s.release()
	return s.ReadCloser.Close()
}
