package realtime

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"
)

func TestSDKIsReadFromMetadata(t *testing.T) {
	for said, want := range map[string]sdk{
		`{"type":"sync","sdk":"JS","sdkv":"3.3.5"}`: {"JS", "3.3.5"},
		`{"sdk":"JS","sdkv":"4.0.0-rc.1+build"}`:    {"JS", "4.0.0-rc.1+build"},
		``:                                          unnamedSDK,
		`null`:                                      unnamedSDK,
		`{"type":"sync"}`:                           unnamedSDK,
		`{"sdk":"JS"}`:                              otherSDK,
		`{"sdk":"J S","sdkv":"1"}`:                  otherSDK,
		`{"sdk":"JS","sdkv":"` + strings.Repeat("1", 25) + `"}`:      otherSDK,
		`{"sdk":"` + "\u00e9" + `","sdkv":"1"}`:                      otherSDK,
		`{"sdk":1,"sdkv":"1"}`:                                       unnamedSDK,
		`{"sdk":"x\"} 1\nlockstep_raft_leader 1\n#","sdkv":"3.3.5"}`: otherSDK,
	} {
		require.Equal(t, want, sdkOf(json.RawMessage(said)), said)
	}
}

func TestStrangersMakeNoMoreThanSoManySeries(t *testing.T) {
	s := newSDKs()
	for i := range 1000 {
		s.enter(sdk{"JS", fmt.Sprint(i)})
	}
	require.LessOrEqual(t, testutil.CollectAndCount(s.gauges), maxSDKs+1)
	for i := range 1000 {
		s.leave(sdk{"JS", fmt.Sprint(i)})
	}
	require.Zero(t, testutil.ToFloat64(s.of(otherSDK)), "who came leaves as what it was counted as")
	require.Zero(t, testutil.ToFloat64(s.of(sdk{"JS", "0"})))
}
