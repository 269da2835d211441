package admin

import (
	"bytes"
	"context"
	"net/http"
	"net/url"
	"runtime/pprof"
	"strconv"
	"time"

	"lockstep/objects"
)

// ProfileCPU is the profile that takes a while; the others are what there is at the
// moment, as runtime/pprof names them.
const ProfileCPU = "cpu"

// Profiles are the names of all profiles of a node.
var Profiles = []string{ProfileCPU, "heap", "allocs", "goroutine", "threadcreate"}

// A CPU profile takes at most MaxProfileTime, which is less than a client waits for
// an answer.
const (
	MaxProfileTime     = 50 * time.Second
	defaultProfileTime = 10 * time.Second
)

var errProfiling = objects.ErrTooMany.With("This node makes a profile already").After(10)

// profile answers with a profile of the process, one at a time: a profile costs a few
// percent of the CPU while it is made, and its memory.
func (h *handler) profile(w http.ResponseWriter, r *http.Request) {
	r, ok := h.enter(w, r, Admin)
	if !ok {
		return
	}
	if !h.profiling.TryLock() {
		h.refuse(w, r, errProfiling)
		return
	}
	defer h.profiling.Unlock()
	var content bytes.Buffer
	err := writeProfile(r.Context(), &content, r.PathValue("profile"), r.URL.Query().Get("seconds"))
	if h.record(r, err, "profile taken", "profile", r.PathValue("profile")) != nil {
		h.refuse(w, r, err)
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Content-Length", strconv.Itoa(content.Len()))
	// What fails here is the connection; there is nobody left to tell.
	_, _ = w.Write(content.Bytes())
}

func writeProfile(ctx context.Context, content *bytes.Buffer, name, seconds string) error {
	if name == ProfileCPU {
		return profileCPU(ctx, content, seconds)
	}
	p := pprof.Lookup(name)
	if p == nil {
		return objects.ErrNotFound
	}
	return p.WriteTo(content, 0)
}

func profileCPU(ctx context.Context, content *bytes.Buffer, seconds string) error {
	span := defaultProfileTime
	if seconds != "" {
		n, err := strconv.ParseFloat(seconds, 64)
		if span = time.Duration(n * float64(time.Second)); err != nil || !(n > 0) || n > MaxProfileTime.Seconds() {
			return objects.ErrParameter.With("seconds must be a number above 0 and at most %v", MaxProfileTime.Seconds())
		}
	}
	if err := pprof.StartCPUProfile(content); err != nil {
		return errProfiling
	}
	defer pprof.StopCPUProfile()
	timer := time.NewTimer(span)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done(): // nobody waits for it any more
		return ctx.Err()
	}
}

// Profile returns a profile of the first of the nodes that can be reached, in the form
// of `go tool pprof`. span is for how long a CPU profile is made; the others take no
// time.
func (c *Client) Profile(ctx context.Context, name string, span time.Duration) ([]byte, error) {
	path := "/cluster/pprof/" + url.PathEscape(name)
	if name == ProfileCPU {
		path += "?seconds=" + strconv.FormatFloat(span.Seconds(), 'f', -1, 64)
	}
	return c.ask(ctx, http.MethodGet, path, nil)
}
