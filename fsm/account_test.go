package fsm

import (
	"testing"

	"github.com/stretchr/testify/require"

	"lockstep/objects"
)

func TestAuthTokensChangeOver(t *testing.T) {
	s := newStore(t)
	signs := func() string { _, token := s.fsm.View().Account(); return token }
	require.Equal(t, []string{"token"}, s.fsm.View().AuthTokens())
	refused(t, objects.ErrNoSecondToken, s.do(asREST, &PromoteAuthToken{}))
	refused(t, objects.ErrNoSecondToken, s.do(asREST, &DropAuthToken{}))
	refused(t, objects.ErrParameter, s.do(asREST, &AddAuthToken{}))
	refused(t, objects.ErrParameter, s.do(asREST, &AddAuthToken{Token: "token"}))

	s.must(asREST, &AddAuthToken{Token: "dropped"})
	s.must(asREST, &AddAuthToken{Token: "dropped"}) // a retry under another id
	refused(t, objects.ErrSecondToken, s.do(asREST, &AddAuthToken{Token: "second"}))
	s.must(asREST, &DropAuthToken{})
	s.must(asREST, &AddAuthToken{Token: "second"})
	require.Equal(t, []string{"token", "second"}, s.fsm.View().AuthTokens())
	require.Equal(t, "token", signs(), "webhooks are signed with the first until then")
	s.must(asREST, &PromoteAuthToken{})
	require.Equal(t, []string{"second"}, s.fsm.View().AuthTokens())
	require.Equal(t, "second", signs())
}
