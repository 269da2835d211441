package realtime

import (
	"encoding/json"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
)

// sdk is the client library that a session says it is.
type sdk struct{ Name, Version string }

const (
	// maxSDKs is how many libraries and versions are told apart, in the life of a
	// process: a client may say that it is anything.
	maxSDKs = 64
	// maxSDKLength is the length of a name or version that may be one.
	maxSDKLength = 24
)

var (
	unnamedSDK = sdk{"none", "none"} // the client says nothing of it
	otherSDK   = sdk{"other", "other"}
)

// sdkOf reads the metadata of a client's first message.
func sdkOf(metadata json.RawMessage) sdk {
	var said struct {
		Name    string `json:"sdk"`
		Version string `json:"sdkv"`
	}
	if json.Unmarshal(metadata, &said) != nil || said.Name == "" && said.Version == "" {
		return unnamedSDK
	}
	if !isLabel(said.Name) || !isLabel(said.Version) {
		return otherSDK
	}
	return sdk{said.Name, said.Version}
}

// isLabel reports whether a text may be the name or version of a library.
func isLabel(text string) bool {
	for _, c := range []byte(text) {
		if (c < '0' || c > '9') && (c < 'A' || c > 'Z') && (c < 'a' || c > 'z') && c != '.' && c != '-' && c != '+' && c != '_' {
			return false
		}
	}
	return text != "" && len(text) <= maxSDKLength
}

// sdks counts the sessions of each client library.
type sdks struct {
	gauges *prometheus.GaugeVec

	mu    sync.Mutex
	known map[sdk]prometheus.Gauge
}

func newSDKs() *sdks {
	return &sdks{
		gauges: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "lockstep_sessions_by_sdk", Help: "Connected realtime sessions by the client library that they say they are; the 64 seen first are told apart.",
		}, []string{"sdk", "version"}),
		known: make(map[sdk]prometheus.Gauge),
	}
}

func (s *sdks) enter(x sdk) { s.of(x).Inc() }
func (s *sdks) leave(x sdk) { s.of(x).Dec() }

// of returns the gauge of a library, the same for the life of the process.
func (s *sdks) of(x sdk) prometheus.Gauge {
	s.mu.Lock()
	defer s.mu.Unlock()
	g, ok := s.known[x]
	if !ok && len(s.known) >= maxSDKs {
		x = otherSDK
		g, ok = s.known[x]
	}
	if !ok {
		g = s.gauges.WithLabelValues(x.Name, x.Version)
		s.known[x] = g
	}
	return g
}
