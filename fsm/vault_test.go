package fsm

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"lockstep/objects"
)

func names(v *View) (all []string) {
	v.EachSealed(func(s *Sealed) bool {
		all = append(all, s.Name)
		return true
	})
	return all
}

func TestVaultKeepsWhatIsStored(t *testing.T) {
	s := newStore(t)
	store := func(name, data string) { s.must(asREST, &StoreSealed{Name: name, Data: []byte(data)}) }
	store("a/b", "1")
	store("a", "2")
	store("ab", "3")
	first, ok := s.fsm.View().Sealed("a/b")
	require.True(t, ok)
	require.Equal(t, "1", string(first.Data))
	require.Equal(t, s.fsm.View().Time(), first.Modified)

	// In the place of what somebody knows, and of nothing else.
	s.must(asREST, &StoreSealed{Name: "a/b", Data: []byte("4"), Instead: first.Index})
	require.Equal(t, "1", string(first.Data), "what is published does not change")
	refused(t, objects.ErrParameter, s.do(asREST, &StoreSealed{Name: "a/b", Data: []byte("5"), Instead: first.Index}))
	refused(t, objects.ErrParameter, s.do(asREST, &StoreSealed{Name: "none", Instead: first.Index}))
	s.must(asREST, &RemoveSealed{Name: "a/b", Instead: first.Index})
	require.Equal(t, []string{"a", "a/b", "ab"}, names(s.fsm.View()), "it was changed meanwhile")

	s.must(asREST, &RemoveSealed{Name: "a"})
	s.must(asREST, &RemoveSealed{Name: "a"})
	require.Equal(t, []string{"ab"}, names(s.fsm.View()), "and all below it")
}

func TestVaultIsBounded(t *testing.T) {
	s := newStore(t)
	full := make([]byte, MaxSealed)
	refused(t, objects.ErrParameter, s.do(asREST, &StoreSealed{Name: "a", Data: append(full, 0)}))
	refused(t, objects.ErrParameter, s.do(asREST, &StoreSealed{Name: ""}))
	refused(t, objects.ErrParameter, s.do(asREST, &StoreSealed{Name: strings.Repeat("n", maxVaultName+1)}))
	stored := 0
	for ; stored < 100; stored++ {
		if s.do(asREST, &StoreSealed{Name: fmt.Sprint(stored), Data: full}).Err != nil {
			break
		}
	}
	require.Equal(t, maxVault/MaxSealed-1, stored, "the names count, too")
	s.must(asREST, &StoreSealed{Name: "0", Data: full})
	s.must(asREST, &RemoveSealed{Name: "0"})
	for i := range maxVaultNames {
		s.do(asREST, &StoreSealed{Name: fmt.Sprintf("n%d", i)})
	}
	require.Len(t, names(s.fsm.View()), maxVaultNames)
	require.Zero(t, s.fsm.View().SealedOtherwise(KeyID{}))
}

func TestLeaseHasOneHolderUntilItEnds(t *testing.T) {
	s := newStore(t)
	take := func(holder string) string {
		s.must(asREST, &TakeLease{Name: "l", Holder: holder, Millis: 1000})
		return s.fsm.View().Lease("l").Holder
	}
	require.Equal(t, "a", take("a"))
	require.Equal(t, "a", take("b"))
	s.time += 900
	require.Equal(t, "a", take("a"), "it is made longer")
	s.time += 900
	require.Equal(t, "a", take("b"))
	s.must(asREST, &EndLease{Name: "l", Holder: "b"})
	require.Equal(t, "a", s.fsm.View().Lease("l").Holder, "it is not b's to end")
	s.time += 101
	require.Equal(t, "b", take("b"), "it has ended by itself")
	s.must(asREST, &EndLease{Name: "l", Holder: "b"})
	require.Zero(t, s.fsm.View().Lease("l"))

	for i := range maxLeases {
		s.must(asREST, &TakeLease{Name: fmt.Sprint(i), Holder: "a", Millis: 1 << 50})
	}
	refused(t, objects.ErrParameter, s.do(asREST, &TakeLease{Name: "more", Holder: "a"}))
	s.time += maxLeaseMillis
	s.must(asREST, &TakeLease{Name: "more", Holder: "a"})
	require.Equal(t, 1, s.fsm.View().leases.Len(), "those that have ended are gone")
}

// A change of the cluster's key ends when nothing needs the old one any more.
func TestChangeOfTheKeyWaitsForTheVault(t *testing.T) {
	s := newStore(t)
	first, key := KeyIDOf([32]byte{1}), KeyIDOf([32]byte{2})
	s.must(asREST, &StoreSealed{Name: "a", Key: first, Data: []byte("old")})
	s.must(asREST, &RotateKey{Key: key})
	require.Zero(t, s.fsm.View().SealingKey(), "not everybody has the new one")
	s.must(asREST, &AdvanceKey{Key: key, Stage: KeySpreads})
	require.Equal(t, key, s.fsm.View().SealingKey())
	refused(t, objects.ErrParameter, s.do(asREST, &StoreSealed{Name: "b", Key: first}))
	s.must(asREST, &AdvanceKey{Key: key, Stage: KeyUsed})
	require.NotNil(t, s.fsm.View().KeyRotation(), "the old key is needed")
	require.Equal(t, "a", s.fsm.View().SealedOtherwise(key).Name)
	s.must(asREST, &StoreSealed{Name: "a", Key: key, Data: []byte("new")})
	s.must(asREST, &AdvanceKey{Key: key, Stage: KeyUsed})
	require.Nil(t, s.fsm.View().KeyRotation())
	require.Equal(t, key, s.fsm.View().SealingKey())
	refused(t, objects.ErrParameter, s.do(asREST, &StoreSealed{Name: "a", Key: first}))
}

func TestAnotherClusterBeginsWithAnEmptyVault(t *testing.T) {
	s := newStore(t)
	s.must(asREST, &StoreSealed{Name: "a", Key: KeyID{1}, Data: []byte("x")})
	s.must(asREST, &TakeLease{Name: "l", Holder: "a", Millis: 1000})
	s.must(asREST, &Recover{ClusterID: "another", Key: KeyID{2}, Gap: GapAfter(0)})
	require.Empty(t, names(s.fsm.View()))
	require.Zero(t, s.fsm.View().Lease("l"))
	s.must(asREST, &StoreSealed{Name: "a", Key: KeyID{2}})
}
