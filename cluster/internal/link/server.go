package link

import (
	"bufio"
	"context"
	"sync"
	"time"
)

const (
	// maxHandled is the number of requests of one connection that are handled at a
	// time. Beyond it nothing more is read, and the caller's outbox fills up.
	maxHandled = 256
	// silence is how long a caller, which pings, may send nothing.
	silence = 5 * pingInterval
)

// serve answers requests until the connection breaks, and waits for those that
// it is still handling.
func (p *Port) serve(c *conn) {
	ctx, cancel := context.WithCancel(p.ctx)
	out := newOutbox()
	var parts sync.WaitGroup
	defer parts.Wait()
	defer c.Close()
	defer cancel()
	select {
	case <-p.serving:
	case <-ctx.Done():
		return
	}
	parts.Go(func() { out.run(c, ctx.Done()) })

	free := make(chan struct{}, maxHandled)
	r := bufio.NewReaderSize(c, 64<<10)
	for {
		c.SetReadDeadline(time.Now().Add(silence))
		f, err := readFrame(r)
		if err != nil {
			return
		}
		if f.kind == kindPing {
			if out.put(frame{id: f.id}) != nil {
				return
			}
			continue
		}
		select {
		case free <- struct{}{}:
		case <-p.ctx.Done():
			return
		}
		parts.Go(func() {
			defer func() { <-free }()
			ctx, cancel := context.WithTimeout(ctx, f.timeout)
			defer cancel()
			if out.put(frame{id: f.id, body: p.handler(ctx, c.server(), f.kind, f.body)}) != nil {
				c.Close() // the caller does not read its answers
			}
		})
	}
}
