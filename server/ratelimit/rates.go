package ratelimit

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// Rates are the limits of an installation, in tokens a second; 0 is no limit.
type Rates struct {
	Writes      float64 // of one document, or of one list or map with its items
	Reads       float64 // likewise
	Messages    float64 // of one stream
	Permissions float64 // reads and writes of one object's permissions
	Creations   float64 // of one kind of object in one service
	Queries     float64 // of one map
	Requests    float64 // of one realtime connection

	// Burst is how long a bucket takes to fill: its capacity is rate · Burst.
	// Zero means ten seconds.
	Burst time.Duration
}

const (
	defaultBurst = 10 * time.Second
	maxBurst     = time.Hour
)

// Default gives the limits that the vendor documents ("Sync Limits"), and for
// queries that of reads.
func Default() Rates {
	return Rates{Writes: 20, Reads: 20, Messages: 30, Permissions: 80, Creations: 20, Queries: 20, Requests: 500, Burst: defaultBurst}
}

// Off gives no limits.
func Off() Rates { return Rates{} }

// Parse reads "default", "off", or a list such as
// "writes=20,reads=20,messages=30,permissions=80,creations=20,queries=20,requests=500,burst=10s"
// in which any part may be left out and then has its default. A rate of 0 is no
// limit.
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
	} else if rate := r.rate(name); rate != nil {
		*rate, err = strconv.ParseFloat(value, 64)
	} else {
		return fmt.Errorf(`rate limits: %q is none of "default", "off" and NAME=VALUE with a name of %s, burst`, name, rateNames)
	}
	if err != nil {
		return fmt.Errorf("rate limits: %s=%s: %w", name, value, err)
	}
	return nil
}

var errBurst = fmt.Errorf("burst must be above 0 and at most %v", maxBurst)

const rateNames = "writes, reads, messages, permissions, creations, queries, requests"

func (r *Rates) rate(name string) *float64 {
	switch name {
	case "writes":
		return &r.Writes
	case "reads":
		return &r.Reads
	case "messages":
		return &r.Messages
	case "permissions":
		return &r.Permissions
	case "creations":
		return &r.Creations
	case "queries":
		return &r.Queries
	case "requests":
		return &r.Requests
	}
	return nil
}

// Validate says whether the rates can be used: none negative or infinite, and
// a burst of at most an hour.
func (r Rates) Validate() error {
	for name := range strings.SplitSeq(rateNames, ", ") {
		if v := *r.rate(name); !(v >= 0) || math.IsInf(v, 0) {
			return fmt.Errorf("rate limits: %s must be 0 or more tokens a second", name)
		}
	}
	if r.Burst < 0 || r.Burst > maxBurst {
		return fmt.Errorf("rate limits: %w", errBurst)
	}
	return nil
}

func (r Rates) withDefaults() Rates {
	if r.Burst == 0 {
		r.Burst = defaultBurst
	}
	return r
}
