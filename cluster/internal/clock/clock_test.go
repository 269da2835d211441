package clock

import (
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// skewed is a machine's clock that a test steps.
type skewed struct{ ahead atomic.Int64 }

func (s *skewed) now() time.Time { return time.Now().Add(time.Duration(s.ahead.Load())) }

func (s *skewed) step(d time.Duration) { s.ahead.Store(int64(d)) }

const year = 365 * 24 * time.Hour

func TestClusterClockIsSteeredAndNeverJumps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var wall skewed
		c := New(wall.now)
		c.Set(c.Now())
		c.decideSteering(true, false)
		passed := func(d time.Duration) time.Duration {
			before := c.Stamp(0)
			time.Sleep(d)
			return time.Duration(c.Stamp(0)-before) * time.Millisecond
		}
		require.Equal(t, 10*time.Second, passed(10*time.Second))
		wall.step(year)
		require.Equal(t, 11*time.Second, passed(10*time.Second), "ahead by a tenth at most")
		wall.step(-year)
		require.Equal(t, 9*time.Second, passed(10*time.Second), "it never stands")
		c.decideSteering(false, false)
		require.Equal(t, 10*time.Second, passed(10*time.Second), "nor does it follow a clock with which nobody agrees")
		wall.step(time.Second)
		c.decideSteering(true, false)
		passed(time.Minute)
		require.Equal(t, c.Now().Milliseconds(), c.Stamp(0), "in the end it is right")
		require.Equal(t, c.Now().Milliseconds()+5000, c.Stamp(c.Now().Milliseconds()+5000), "and never behind the store's time")
	})
}

func TestLargestGroup(t *testing.T) {
	for _, x := range []struct {
		seconds []time.Duration
		want    int
	}{
		{nil, 0}, {[]time.Duration{60}, 1}, {[]time.Duration{60, -60}, 1}, {[]time.Duration{60, 62}, 2}, {[]time.Duration{0, 10, 20}, 3}, {[]time.Duration{0, 11, 22}, 1},
	} {
		for i := range x.seconds {
			x.seconds[i] *= time.Second
		}
		require.Equal(t, x.want, largestGroup(x.seconds, farAt))
	}
}
