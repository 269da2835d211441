package wire

import (
	"cmp"
	"fmt"
	"math"
	"os"
	"sync"
	"syscall"
)

// Poller tells of connections over which something has come, while no goroutine
// reads from them. Run is its only goroutine.
type Poller struct {
	file *os.File // an epoll instance, which the runtime's own poller watches
	raw  syscall.RawConn

	mu    sync.Mutex
	conns map[int32]*Conn // that were registered, by a number that is used once in 2^31 times
	last  int32
}

// NewPoller returns a Poller, whose Run has to be called, or whose Close.
func NewPoller() (*Poller, error) {
	fd, err := syscall.EpollCreate1(syscall.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("make a poller: %w", err)
	}
	if err := syscall.SetNonblock(fd, true); err != nil {
		syscall.Close(fd)
		return nil, fmt.Errorf("make a poller: %w", err)
	}
	p := &Poller{file: os.NewFile(uintptr(fd), "epoll"), conns: make(map[int32]*Conn)}
	if p.raw, err = p.file.SyscallConn(); err != nil {
		return nil, fmt.Errorf("make a poller: %w", err)
	}
	return p, nil
}

// Run tells of connections until Close.
func (p *Poller) Run() {
	events := make([]syscall.EpollEvent, 256)
	for {
		n := 0
		err := p.raw.Read(func(fd uintptr) (done bool) {
			var err error
			n, err = syscall.EpollWait(int(fd), events, 0)
			return n > 0 || err != nil && err != syscall.EINTR
		})
		if err != nil {
			return // closed
		}
		for i := range max(n, 0) {
			if c := p.find(events[i].Fd); c != nil {
				c.wake(false)
			}
		}
	}
}

// Close ends Run.
func (p *Poller) Close() { p.file.Close() }

func (p *Poller) find(number int32) *Conn {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.conns[number]
}

// watch has the connection woken once when there is something to read, or its end,
// which may be so already.
func (p *Poller) watch(c *Conn) error {
	number, known := p.register(c)
	op := syscall.EPOLL_CTL_ADD
	if known {
		op = syscall.EPOLL_CTL_MOD
	}
	event := syscall.EpollEvent{Events: syscall.EPOLLIN | syscall.EPOLLRDHUP | syscall.EPOLLONESHOT, Fd: number}
	var failed error
	err := p.raw.Control(func(poller uintptr) {
		if err := c.raw.Control(func(fd uintptr) { failed = syscall.EpollCtl(int(poller), op, int(fd), &event) }); err != nil {
			failed = err
		}
	})
	if err = cmp.Or(err, failed); err != nil {
		p.forget(c)
	}
	return err
}

// register gives a connection its number, unless it has one.
func (p *Poller) register(c *Conn) (number int32, known bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if c.number != 0 {
		return c.number, true
	}
	for p.last = p.last%math.MaxInt32 + 1; p.conns[p.last] != nil; {
		p.last = p.last%math.MaxInt32 + 1
	}
	c.number = p.last
	p.conns[c.number] = c
	return c.number, false
}

// forget is called when a connection is closed, which the epoll instance notices by
// itself.
func (p *Poller) forget(c *Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if c.number != 0 {
		delete(p.conns, c.number)
		c.number = 0
	}
}
