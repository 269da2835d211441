package durablestreams

import (
	"net/http"
	"time"

	"lockstep/objects"
	"lockstep/server/requestid"
)

// record is how a request goes. It is the ResponseWriter of the request, which it
// counts, and whose span it ends, when the answer begins.
//
// What is counted is the time that the node takes. A live reader waits for news, which
// is not that: who polls has the clock stopped before, and the answer of server-sent
// events begins with what is there already.
type record struct {
	http.ResponseWriter
	handler *Handler
	request *http.Request
	id      requestid.ID
	begun   time.Time
	took    time.Duration                            // when the clock has stopped
	status  int                                      // 0: nothing was answered yet
	end     func(status int, refused *objects.Error) // of the span; nil: it is not followed
}

// statusGone stands for that of a request whose client went before there was an answer.
const statusGone = 499

// record begins the record of a request, and gives it an id.
func (h *Handler) record(w http.ResponseWriter, r *http.Request) *record {
	c := &record{ResponseWriter: w, handler: h, request: r, id: requestid.New(), begun: time.Now()}
	w.Header()[requestid.Header] = []string{c.id.String()}
	return c
}

// trace begins the span of the request, where it is followed.
func (c *record) trace() {
	if c.handler.config.Trace == nil {
		return
	}
	ctx, end := c.handler.config.Trace(c.request.Context(), c.request.Method, c.request.Header.Get("traceparent"))
	if c.end = end; end != nil {
		c.request = c.request.WithContext(ctx)
	}
}

// WriteHeader implements http.ResponseWriter.
func (c *record) WriteHeader(status int) {
	c.answered(status, nil)
	c.ResponseWriter.WriteHeader(status)
}

// Write implements http.ResponseWriter.
func (c *record) Write(b []byte) (int, error) {
	c.answered(http.StatusOK, nil)
	return c.ResponseWriter.Write(b)
}

// Unwrap is for http.ResponseController.
func (c *record) Unwrap() http.ResponseWriter { return c.ResponseWriter }

// stop stops the clock: from now on the request waits for news.
func (c *record) stop() {
	if c.took == 0 {
		c.took = time.Since(c.begun)
	}
}

// answered tells of the request that it is answered, the first time.
func (c *record) answered(status int, refused *objects.Error) {
	if c.status != 0 {
		return
	}
	c.status = status
	c.stop()
	if status != statusGone {
		method := c.request.Method
		c.handler.config.Answered(method != http.MethodGet && method != http.MethodHead, refused, c.took)
	}
	if c.end != nil {
		c.end(status, refused)
	}
	config := &c.handler.config
	requestid.Note(config.Logger, c.request, c.id, status, refused, c.took, config.TrustedProxies)
}

// left writes a line for a live reader that goes.
func (c *record) left() {
	c.handler.config.Logger.Debug("live reader left", "request", c.id.String(), "stayed", time.Since(c.begun))
}
