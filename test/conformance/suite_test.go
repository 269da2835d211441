package main

import (
	"testing"

	"github.com/stretchr/testify/require"
)

const summary = "ℹ tests 4\nℹ suites 0\nℹ pass 2\nℹ fail 0\nℹ cancelled 0\nℹ skipped 2\nℹ todo 0\n"

func TestCasesAVersionLacksAreNotCounted(t *testing.T) {
	absent := "✔ 4.0.1 live query: follows (2ms)\n﹣ 0.8.6 live query: follows (0.2ms) # no query in 0.8.6\n"
	r, err := countVersions([]byte(absent + "﹣ 0.8.6 instant query: answers (0.1ms) # no query in 0.8.6\n" + summary))
	require.NoError(t, err)
	require.Equal(t, result{passed: 2}, r)
	r, err = countVersions([]byte(absent + "﹣ 2.0.1 browser: two tabs on two nodes (0.1ms) # no browser at /usr/bin/chromium: set CHROMIUM\n" + summary))
	require.NoError(t, err)
	require.Equal(t, result{passed: 2, failed: 1}, r)
}

func TestFieldCasesAreCounted(t *testing.T) {
	r, err := countField([]byte("01 ok   a case — 3 passed, 1 failed in it\n02 FAIL another\n27 passed, 1 failed\n"))
	require.NoError(t, err)
	require.Equal(t, result{passed: 27, failed: 1}, r)
	_, err = countField([]byte("node: not found\n"))
	require.Error(t, err)
}
