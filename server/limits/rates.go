package limits

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// Limit is a rate that all clients share, and the part of it that one identity may
// use, in tokens a second; 0 means no limit.
type Limit struct {
	Rate     float64
	Identity float64 // of an access token; REST credentials may use it all
}

// Rates are the limits of an installation, in tokens a second; 0 is no limit.
type Rates struct {
	Writes      Limit   // of one document, or of one list or map with its items
	Reads       Limit   // likewise
	Messages    Limit   // of one stream
	Creations   Limit   // of one kind of object in one service
	Queries     Limit   // of one map
	Permissions float64 // reads and writes of one object's permissions
	Misses      float64 // requests of one caller in one service for what is not there, or not its own
	Requests    float64 // of one realtime connection

	// Burst is how long a bucket takes to fill: its capacity is rate · Burst.
	// Zero means ten seconds.
	Burst time.Duration
}

const (
	defaultBurst = 10 * time.Second
	maxBurst     = time.Hour
)

// Default returns the limits that the vendor documents ("Sync Limits"). It names
// the part of one identity for queries only; of the other limits one identity may
// use three quarters.
func Default() Rates {
	return Rates{
		Writes: Limit{20, 15}, Reads: Limit{20, 15}, Messages: Limit{30, 22.5}, Creations: Limit{20, 15}, Queries: Limit{200, 20},
		Permissions: 80, Misses: 100, Requests: 500, Burst: defaultBurst,
	}
}

// Off returns no limits.
func Off() Rates { return Rates{} }

// Usage is the default in the form that Parse reads.
const Usage = "writes=20/15,reads=20/15,messages=30/22.5,creations=20/15,queries=200/20,permissions=80,misses=100,requests=500,burst=10s"

// Parse reads "default", "off", or a list such as Usage, in which any part may be
// left out and then has its default. What follows the / is the part of one
// identity; left out, it has the same proportion as the default. A rate of 0 is
// no limit.
func Parse(s string) (Rates, error) {
	switch strings.TrimSpace(s) {
	case "default":
		return Default(), nil
	case "off":
		return Off(), nil
	}
	r := Default()
	seen := map[string]bool{}
	for part := range strings.SplitSeq(s, ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(part), "=")
		if seen[name] {
			return Rates{}, fmt.Errorf("rate limits: %q is set twice", name)
		}
		seen[name] = true
		if err := r.set(name, value); err != nil {
			return Rates{}, err
		}
	}
	if err := r.Validate(); err != nil {
		return Rates{}, err
	}
	return r, nil
}

func (r *Rates) set(name, value string) (err error) {
	if name == "burst" {
		r.Burst, err = time.ParseDuration(value)
		if err == nil && r.Burst == 0 {
			err = errBurst
		}
	} else if limit := r.limit(name); limit != nil {
		err = limit.set(value)
	} else if rate := r.rate(name); rate != nil {
		*rate, err = strconv.ParseFloat(value, 64)
	} else {
		return fmt.Errorf(`rate limits: %q is none of "default", "off" and NAME=VALUE with a name of %s, %s, burst`, name, limitNames, rateNames)
	}
	if err != nil {
		return fmt.Errorf("rate limits: %s=%s: %w", name, value, err)
	}
	return nil
}

// set reads RATE or RATE/IDENTITY.
func (l *Limit) set(value string) (err error) {
	part := l.Identity / l.Rate
	rate, identity, both := strings.Cut(value, "/")
	if l.Rate, err = strconv.ParseFloat(rate, 64); err != nil {
		return err
	}
	l.Identity = l.Rate * part
	if both {
		l.Identity, err = strconv.ParseFloat(identity, 64)
	}
	return err
}

var errBurst = fmt.Errorf("burst must be above 0 and at most %v", maxBurst)

const (
	limitNames = "writes, reads, messages, creations, queries"
	rateNames  = "permissions, misses, requests"
)

func (r *Rates) limit(name string) *Limit {
	switch name {
	case "writes":
		return &r.Writes
	case "reads":
		return &r.Reads
	case "messages":
		return &r.Messages
	case "creations":
		return &r.Creations
	case "queries":
		return &r.Queries
	}
	return nil
}

func (r *Rates) rate(name string) *float64 {
	switch name {
	case "permissions":
		return &r.Permissions
	case "misses":
		return &r.Misses
	case "requests":
		return &r.Requests
	}
	return nil
}

// Validate returns an error if a rate is negative or infinite, if that of an
// identity exceeds that of all, or if the burst is longer than an hour.
func (r Rates) Validate() error {
	for name := range strings.SplitSeq(limitNames, ", ") {
		l := *r.limit(name)
		if !valid(l.Rate) || !valid(l.Identity) {
			return errRate(name)
		}
		if l.Rate > 0 && l.Identity > l.Rate {
			return fmt.Errorf("rate limits: %s: %v of one identity are more than the %v of all", name, l.Identity, l.Rate)
		}
	}
	for name := range strings.SplitSeq(rateNames, ", ") {
		if !valid(*r.rate(name)) {
			return errRate(name)
		}
	}
	if r.Burst < 0 || r.Burst > maxBurst {
		return fmt.Errorf("rate limits: %w", errBurst)
	}
	return nil
}

func valid(rate float64) bool { return rate >= 0 && !math.IsInf(rate, 0) }

func errRate(name string) error {
	return fmt.Errorf("rate limits: %s must be 0 or more tokens a second", name)
}
