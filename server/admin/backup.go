package admin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Backup is a cluster's whole state as package backup writes it. Its owner closes
// the content.
type Backup struct {
	Size    int64
	Content io.ReadCloser
}

// backupType is the media type of backups.
const backupType = "application/vnd.lockstep.backup"

// backupPatience is for how long neither side waits for the other to go on while a
// backup is sent, so many bytes at a time.
const (
	backupPatience = time.Minute
	backupChunk    = 64 << 10
)

// backup answers with a backup, which takes as long as it takes: only a client that
// takes nothing is given up.
func (h *handler) backup(w http.ResponseWriter, r *http.Request) {
	r, ok := h.enter(w, r, Account)
	if !ok {
		return
	}
	control := http.NewResponseController(w)
	if err := control.SetWriteDeadline(time.Time{}); err != nil { // it is being made
		h.refuse(w, r, fmt.Errorf("make backup: %w", err))
		return
	}
	b, err := h.node.Backup(r.Context())
	if h.record(r, err, "backup taken", "bytes", b.Size) != nil {
		h.refuse(w, r, err)
		return
	}
	defer b.Content.Close() // it was only read
	w.Header().Set("Content-Type", backupType)
	w.Header().Set("Content-Length", strconv.FormatInt(b.Size, 10))
	for {
		err := control.SetWriteDeadline(time.Now().Add(backupPatience))
		if err == nil {
			_, err = io.CopyN(w, b.Content, backupChunk)
		}
		if err != nil {
			if !errors.Is(err, io.EOF) {
				h.logger.Warn("backup not sent", "error", err)
			}
			return
		}
	}
}

// unhurried has no time-out for an answer as a whole.
var unhurried = &http.Client{Transport: &http.Transport{DisableKeepAlives: true, Proxy: http.ProxyFromEnvironment}}

// Backup has a node make a backup, and returns it. The context bounds all of it.
func (c *Client) Backup(ctx context.Context) (Backup, error) {
	var unreachable []error
	for _, u := range c.URLs {
		b, err := c.backupFrom(ctx, u)
		if !errors.Is(err, ErrUnreachable) {
			return b, err
		}
		unreachable = append(unreachable, err)
	}
	return Backup{}, errors.Join(unreachable...)
}

func (c *Client) backupFrom(ctx context.Context, origin string) (Backup, error) {
	ctx, cancel := context.WithCancel(ctx)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, strings.TrimRight(origin, "/")+"/cluster/backup", nil)
	if err != nil {
		cancel()
		return Backup{}, err
	}
	req.SetBasicAuth(c.AccountSID, c.AuthToken)
	res, err := unhurried.Do(req)
	if err != nil {
		cancel()
		return Backup{}, fmt.Errorf("%w: %w", ErrUnreachable, err)
	}
	content := &patient{body: res.Body, cancel: cancel, timer: time.AfterFunc(backupPatience, cancel)}
	if res.StatusCode != http.StatusOK || res.Header.Get("Content-Type") != backupType {
		defer content.Close() // it was only read
		b, err := io.ReadAll(io.LimitReader(content, maxAnswer))
		if err == nil {
			err = refusalOf(res.StatusCode, res.Header, b)
		}
		if err == nil {
			err = fmt.Errorf("the node answered with %q in place of a backup", res.Header.Get("Content-Type"))
		}
		return Backup{}, err
	}
	return Backup{Size: res.ContentLength, Content: content}, nil
}

// patient is the body of an answer that is given up when nothing comes for a while.
type patient struct {
	body   io.ReadCloser
	cancel context.CancelFunc
	timer  *time.Timer
}

// Read implements io.Reader.
func (p *patient) Read(b []byte) (int, error) {
	p.timer.Reset(backupPatience)
	return p.body.Read(b)
}

// Close implements io.Closer.
func (p *patient) Close() error {
	p.timer.Stop()
	p.cancel()
	return p.body.Close()
}
