package realtime

import (
	"bytes"
	"context"
	"encoding/json"
	"slices"

	"lockstep/objects"
	"lockstep/server/api"
)

// presence is which maps' items a session holds that it writes: they go when it is
// gone, and does not come back for some time. The official client passes its option
// tweaks on with its first message, whatever is in it; this is what it has under
// "presence". nil: the session holds nothing.
type presence struct {
	Maps  []string `json:"maps"` // unique names or SIDs
	TTL   *int64   `json:"ttl"`  // seconds
	wrong bool
}

// maxPresenceMaps is how many maps a session may name.
const maxPresenceMaps = 16

// presenceOf reads the tweaks of a client's first message. What is wrong in them is
// told where the client writes to a map, since its application hears of that.
func presenceOf(tweaks json.RawMessage) *presence {
	var all struct {
		Presence json.RawMessage `json:"presence"`
	}
	if json.Unmarshal(tweaks, &all) != nil || len(all.Presence) == 0 || bytes.Equal(all.Presence, []byte("null")) {
		return nil
	}
	p := new(presence)
	in := json.NewDecoder(bytes.NewReader(all.Presence))
	in.DisallowUnknownFields()
	if in.Decode(p) != nil || !p.valid() {
		return &presence{wrong: true}
	}
	return p
}

func (p *presence) valid() bool {
	if len(p.Maps) == 0 || len(p.Maps) > maxPresenceMaps {
		return false
	}
	for _, name := range p.Maps {
		if objects.ValidateName(name) != nil && !objects.LooksLikeSID(name) {
			return false
		}
	}
	return p.TTL == nil || objects.ValidateGrace(*p.TTL) == nil
}

// hold returns the hold that the session takes on the item that a call writes, nil if
// it takes none.
func (c *call) hold(ctx context.Context) (*api.Hold, error) {
	s, p := c.session, c.session.presence
	if p == nil || c.kind != objects.KindMap {
		return nil, nil
	}
	if p.wrong {
		return nil, objects.ErrPresence
	}
	o, known, err := s.api.Known(ctx, s.reader(), c.kind, c.ref)
	if err != nil || !known {
		return nil, err
	}
	if !slices.Contains(p.Maps, o.SID.String()) && (o.UniqueName == "" || !slices.Contains(p.Maps, o.UniqueName)) {
		return nil, nil
	}
	grace := int64(objects.DefaultGrace)
	if p.TTL != nil {
		grace = *p.TTL
	}
	return &api.Hold{Node: s.config.NodeID, Session: s.id, Grace: grace}, nil
}
