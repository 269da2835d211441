//go:build !linux

package wire

import "errors"

// Poller is for Linux; elsewhere each connection has a goroutine that reads from it.
type Poller struct{}

// NewPoller returns an error.
func NewPoller() (*Poller, error) { return nil, errors.ErrUnsupported }

// Run is never called.
func (p *Poller) Run() {}

// Close is never called.
func (p *Poller) Close() {}

func (p *Poller) watch(*Conn) error { return errors.ErrUnsupported }

func (p *Poller) forget(*Conn) {}
