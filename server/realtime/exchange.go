package realtime

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"time"

	"lockstep/objects"
	"lockstep/server/audit"
	"lockstep/server/refusal"
)

// Clients before 0.8 exchange their access token before they do anything else,
// over HTTP until they are connected, and then as a request in the tunnel
// (protocol versions, part 3.2). There is nothing to exchange it for: they get
// it back, with what it is good for.

// exchangeOrder is the body of such a request.
type exchangeOrder struct {
	Token        string          `json:"fpa_token"`
	Continuation json.RawMessage `json:"continuation_token"`
}

// ServeExchange answers POST /v1/token. It costs a stranger as much as a
// connection.
func (s *Server) ServeExchange(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Access-Control-Allow-Origin", "*") // the page that asks is another origin's
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		refusal.Write(w, objects.ErrMethod)
		return
	}
	from, refused := s.arrive(r)
	if refused != nil {
		refusal.Write(w, refused)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), s.config.InitTimeout)
	defer cancel()
	body, err := s.readExchange(w, r)
	if err != nil {
		refusal.Write(w, refusal.Of(err))
		return
	}
	v := visitor{server: s, network: from, source: audit.Source(r, s.config.TrustedProxies)}
	answer, err := v.exchange(ctx, body)
	if err != nil {
		refusal.Write(w, refusal.Of(err))
		return
	}
	w.Header().Set("Content-Type", refusal.ContentType)
	// What fails here is the connection; there is nobody left to tell.
	_ = json.NewEncoder(w).Encode(answer)
}

// readExchange reads no more than an init may have.
func (s *Server) readExchange(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	// A listener that cannot take a deadline has one of its own.
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(s.config.InitTimeout))
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, s.config.InitBytes))
	if err != nil {
		return nil, objects.ErrParameter.With("The body cannot be read, or is too long")
	}
	return body, nil
}

// exchangeToken is the same in the tunnel.
func exchangeToken(ctx context.Context, c *call) (answer, error) {
	body, err := c.session.visitor().exchange(ctx, c.body)
	if err != nil {
		return answer{}, err
	}
	return jsonAnswer(body)
}

// exchange returns the answer to an order.
func (v visitor) exchange(ctx context.Context, body []byte) (*exchanged, error) {
	var order exchangeOrder
	if err := json.Unmarshal(body, &order); err != nil || order.Token == "" {
		return nil, objects.ErrParameter.With("The body must be JSON with an fpa_token")
	}
	p, service, refused := v.admit(ctx, order.Token)
	if refused != nil {
		return nil, refused
	}
	e := &exchanged{
		Token: order.Token, TTL: int64(p.Expires.Sub(v.server.config.Clock()) / time.Second),
		Identity: p.Identity, Account: p.AccountSID,
	}
	e.Status.Status = "UPDATED"
	var first bool
	if e.Continuation, first = continuationToken(order.Continuation); first {
		e.Status.Status = "NEW"
	}
	e.Instances.DataSync = service.SID.String()
	return e, nil
}

// exchanged is the answer to an order.
type exchanged struct {
	Token        string `json:"twilio_rtd_token"`
	TTL          int64  `json:"ttl"` // in seconds
	Continuation string `json:"continuation_token"`
	Status       struct {
		Status string `json:"status"`
	} `json:"status"`
	Identity  string `json:"identity"`
	Account   string `json:"account_sid"`
	Instances struct {
		DataSync string `json:"data_sync"`
	} `json:"instance_sids"`
}
