package link

import (
	"bufio"
	"context"
	"fmt"
	"sync"
	"time"
)

const (
	pingInterval = 2 * time.Second
	pingTimeout  = 4 * time.Second
)

// dialed is a connection to a peer, or the attempt to make one, which all
// callers share.
type dialed struct {
	ready  chan struct{} // closed when client or err is set
	client *client
	err    error
}

// Call sends a request to a server, or to the process at HOST:PORT, and waits for
// the answer. An error that does not wrap ErrNotSent leaves open whether the
// request was handled.
func (p *Port) Call(ctx context.Context, to string, kind byte, body []byte) ([]byte, error) {
	c, err := p.client(ctx, to)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNotSent, err)
	}
	return c.call(ctx, kind, body)
}

func (p *Port) client(ctx context.Context, to string) (*client, error) {
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return nil, ErrClosed
	}
	d := p.clients[to]
	if d == nil {
		d = &dialed{ready: make(chan struct{})}
		p.clients[to] = d
		p.work.Go(func() { p.connect(to, d) })
	}
	p.mu.Unlock()
	select {
	case <-d.ready:
		return d.client, d.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// connect dials and then runs the connection until it breaks.
func (p *Port) connect(to string, d *dialed) {
	c, err := p.dial(p.ctx, to, purposeRequest)
	if err != nil {
		p.forget(to, d)
		d.err = err
		close(d.ready)
		return
	}
	d.client = &client{conn: c, out: newOutbox(), pending: make(map[uint64]chan []byte), done: make(chan struct{})}
	close(d.ready)
	var parts sync.WaitGroup
	parts.Go(func() { d.client.out.run(c, d.client.done) })
	parts.Go(d.client.ping)
	d.client.read()
	p.forget(to, d)
	parts.Wait()
}

func (p *Port) forget(to string, d *dialed) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.clients[to] == d {
		delete(p.clients, to)
	}
}

// client is the calling end of a request connection.
type client struct {
	conn *conn
	out  *outbox
	done chan struct{} // closed when the connection broke; then err is set
	err  error

	mu      sync.Mutex
	broken  bool
	last    uint64
	pending map[uint64]chan []byte
}

func (c *client) call(ctx context.Context, kind byte, body []byte) ([]byte, error) {
	timeout := time.Minute
	if deadline, ok := ctx.Deadline(); ok {
		timeout = time.Until(deadline)
	}
	if timeout < time.Millisecond {
		return nil, fmt.Errorf("%w: %w", ErrNotSent, context.DeadlineExceeded)
	}
	answer := make(chan []byte, 1)
	c.mu.Lock()
	if c.broken {
		c.mu.Unlock()
		return nil, fmt.Errorf("%w: connection broke: %w", ErrNotSent, c.err)
	}
	c.last++
	id := c.last
	c.pending[id] = answer
	c.mu.Unlock()
	if err := c.out.put(frame{id: id, kind: kind, timeout: timeout, body: body}); err != nil {
		c.abandon(id)
		return nil, fmt.Errorf("%w: %w", ErrNotSent, err)
	}
	select {
	case body := <-answer:
		return body, nil
	case <-ctx.Done():
		c.abandon(id)
		return nil, ctx.Err()
	case <-c.done:
	}
	select {
	case body := <-answer:
		return body, nil
	default:
		return nil, fmt.Errorf("connection to %s broke: %w", c.conn.peer, c.err)
	}
}

func (c *client) abandon(id uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.pending, id)
}

// read hands answers to their callers until the connection breaks.
func (c *client) read() {
	r := bufio.NewReaderSize(c.conn, 64<<10)
	for {
		f, err := readFrame(r)
		if err != nil {
			c.conn.Close()
			c.mu.Lock()
			c.broken, c.err = true, err
			c.mu.Unlock()
			close(c.done)
			return
		}
		c.mu.Lock()
		answer := c.pending[f.id]
		delete(c.pending, f.id)
		c.mu.Unlock()
		if answer != nil {
			answer <- f.body
		}
	}
}

// ping notices a peer that neither answers nor closes.
func (c *client) ping() {
	tick := time.NewTicker(pingInterval)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-c.done:
			return
		}
		ctx, cancel := context.WithTimeout(context.Background(), pingTimeout)
		_, err := c.call(ctx, kindPing, nil)
		cancel()
		if err != nil {
			c.conn.Close()
			return
		}
	}
}
