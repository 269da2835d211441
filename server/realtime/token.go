package realtime

import (
	"context"
	"net/netip"
	"sync"
	"time"

	"lockstep/fsm"
	"lockstep/objects"
	"lockstep/server/auth"
	"lockstep/server/hub"
	"lockstep/server/realtime/wire"
)

// noticeGrace is how long a token that is about to expire from the start goes
// unannounced: the application cannot listen for it before it is connected.
const noticeGrace = 500 * time.Millisecond

// token is the access token of a session, which may be renewed: it is announced
// when it is about to expire, and when it has expired, or when its key is
// revoked, the session ends. Its timer runs for moments and blocks nowhere.
type token struct {
	session *session

	mu        sync.Mutex
	principal auth.Principal
	ended     bool
	timer     *time.Timer // until it is announced, and then until it has expired
	expiry    time.Time
	renewals  int
	key       *hub.Following
}

// begin watches the token that the session was opened with.
func (t *token) begin(s *session) {
	t.session = s
	t.renew(t.principal)
}

// renew watches another token from now on.
func (t *token) renew(p auth.Principal) {
	s := t.session
	var following *hub.Following
	key, ok := objects.ParseSID(p.KeySID)
	if ok {
		following = s.server.hub.Follow(key, s)
	}
	t.mu.Lock()
	old := t.key
	t.principal, t.key = p, following
	t.stop()
	if !t.ended {
		t.schedule(p.Expires.Sub(s.config.Clock()))
	}
	t.mu.Unlock()
	if old != nil {
		old.Stop()
	}
	// Key or service may have gone while nobody watched them.
	s.OnGap(s.config.Node.View())
}

func (t *token) schedule(left time.Duration) {
	s := t.session
	warn := left - s.config.ExpiryNotice
	if warn <= 0 {
		warn = min(left/4, noticeGrace)
	}
	t.expiry = time.Now().Add(left)
	t.renewals++
	renewal := t.renewals
	t.timer = time.AfterFunc(warn, func() { t.announce(renewal) })
}

// announce tells that the token is about to expire.
func (t *token) announce(renewal int) {
	t.mu.Lock()
	current := !t.ended && t.renewals == renewal
	if current {
		t.timer = time.AfterFunc(time.Until(t.expiry), func() { t.session.end(endExpired) })
	}
	t.mu.Unlock()
	if current {
		t.session.queue.Push(wire.TokenAboutToExpire())
	}
}

func (t *token) stop() {
	if t.timer != nil {
		t.timer.Stop()
		t.timer = nil
	}
}

// end watches no more.
func (t *token) end() {
	t.mu.Lock()
	t.ended = true
	t.stop()
	key := t.key
	t.mu.Unlock()
	if key != nil {
		key.Stop()
	}
}

// holds reports whether the key that signed the token is one still.
func (t *token) holds(view *fsm.View) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	key, ok := objects.ParseSID(t.principal.KeySID)
	return !ok || known(view, key)
}

func known(view *fsm.View, key objects.SID) bool {
	_, ok := view.Key(key)
	return ok
}

// visitor is somebody who shows a token.
type visitor struct {
	server  *Server
	source  string     // the address that they come from
	network netip.Addr // of that, as it is counted
}

func (s *session) visitor() visitor {
	return visitor{server: s.server, source: s.source, network: s.network}
}

// admit is Server.admit. A visitor that guesses waits for the answer; a token
// that has expired was a good one.
func (v visitor) admit(ctx context.Context, text string) (auth.Principal, *objects.Service, *objects.Error) {
	p, service, refused := v.server.admit(ctx, text, v.network)
	if hook := v.server.config.Refused; hook != nil && refused != nil && refused.Is(objects.ErrTokenInvalid) {
		hook(ctx, v.source)
	}
	return p, service, refused
}

// update takes a new token, of the same identity and service (part 2.2).
func (s *session) update(m *wire.Message) {
	p, service, refused := s.visitor().admit(s.ctx, m.Token)
	if refused != nil {
		s.push(wire.Rejection(m.ID, refused))
		return
	}
	if p.Identity != s.actor.Identity || service.SID != s.service.SID {
		s.push(wire.Reply(m.ID, 401, "UNAUTHORIZED"))
		return
	}
	s.token.renew(p)
	s.push(wire.Reply(m.ID, 200, "OK"))
}
