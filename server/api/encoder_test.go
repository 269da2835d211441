package api_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"lockstep/server/resource"
)

func TestEncoderNamesTheAccount(t *testing.T) {
	a, n := start()
	account, _ := n.View().Account()
	want := resource.Encoder{Origin: "http://h", Account: account, Protocol: resource.Realtime}
	require.Equal(t, want, a.Encoder("http://h", resource.Realtime))
}
