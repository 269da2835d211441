package ports

import (
	"fmt"
	"net"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestNobodyIsGivenWhatAnotherHasJustBeenGiven(t *testing.T) {
	const takers, n = 50, 3
	var mu sync.Mutex
	given := make(map[int]bool)
	var work sync.WaitGroup
	for range takers {
		work.Go(func() {
			first, err := Take(n)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				t.Error(err)
			}
			for port := first; port < first+n; port++ {
				if given[port] {
					t.Errorf("%d was given twice", port)
				}
				given[port] = true
			}
		})
	}
	work.Wait()
	require.Len(t, given, takers*n)
}

func TestPortsThatSomebodyHasAreLeftOut(t *testing.T) {
	first, err := Take(3)
	require.NoError(t, err)
	l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", first+1))
	require.NoError(t, err)
	defer l.Close()
	found, err := freeFrom(first, 3)
	require.NoError(t, err)
	require.Greater(t, found, first+1)
}

func TestAfterTheLastPortComesTheFirst(t *testing.T) {
	found, err := freeFrom(endPort-1, 3)
	require.NoError(t, err)
	require.Less(t, found, endPort-3)
	require.GreaterOrEqual(t, found, firstPort)
}
