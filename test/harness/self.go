package harness

import (
	"bufio"
	"io"
	"os"
	"os/exec"
	"testing"

	"github.com/stretchr/testify/require"
)

// Self is another process of the test's own program, which TestMain makes what it
// is by a variable of the environment: what it measures, the test's own work does
// not delay. It answers each line with a line, and ends with the test.
type Self struct {
	PID int

	t   testing.TB
	in  io.Writer
	out *bufio.Reader
}

// StartSelf starts one with this variable, NAME=VALUE.
func StartSelf(t testing.TB, variable string) *Self {
	t.Helper()
	program, err := os.Executable()
	require.NoError(t, err)
	cmd := exec.Command(program)
	cmd.Env = append(os.Environ(), variable)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	require.NoError(t, err)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		in.Close()
		_ = cmd.Wait() // it says nothing
	})
	return &Self{PID: cmd.Process.Pid, t: t, in: in, out: bufio.NewReader(out)}
}

// Ask sends an empty line, and returns the answer.
func (s *Self) Ask() []byte {
	s.t.Helper()
	_, err := s.in.Write([]byte{'\n'})
	require.NoError(s.t, err)
	answer, err := s.out.ReadBytes('\n')
	require.NoError(s.t, err, "it has ended")
	return answer
}
