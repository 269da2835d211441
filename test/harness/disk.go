package harness

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// Memory mounts a file system of so many bytes, in memory, until the test ends.
func Memory(t testing.TB, dir string, bytes string) {
	t.Helper()
	mount(t, dir, "-t", "tmpfs", "-o", "mode=0700,size="+bytes, "lockstep-test")
}

// Disk is a file system of its own, on a file, that can fail.
type Disk struct {
	t          testing.TB
	image, dir string
}

// NewDisk makes a file system of 512 MiB and mounts it until the test ends.
func NewDisk(t testing.TB, dir string) *Disk {
	t.Helper()
	d := &Disk{t: t, image: filepath.Join(t.TempDir(), "disk"), dir: dir}
	f, err := os.Create(d.image)
	require.NoError(t, err)
	require.NoError(t, f.Truncate(512<<20))
	require.NoError(t, f.Close())
	out, err := exec.CommandContext(t.Context(), "mkfs.ext4", "-q", d.image).CombinedOutput()
	require.NoError(t, err, "mkfs.ext4: %s", out)
	mount(t, dir, "-o", "loop", d.image)
	return d
}

// shutdown is the request that has ext4 fail everything from then on, and
// withoutFlush its mode in which what is not yet synced is lost.
const (
	shutdown     = 0x8004587d
	withoutFlush = 2
)

// Fail has every read and write fail with an input/output error from now on. What
// was not synced is lost.
func (d *Disk) Fail() {
	d.t.Helper()
	f, err := os.Open(d.dir)
	require.NoError(d.t, err)
	defer f.Close()
	require.NoError(d.t, unix.IoctlSetPointerInt(int(f.Fd()), shutdown, withoutFlush))
}

// Mend mounts the file system again, with what was synced. Nobody may use it.
func (d *Disk) Mend() {
	d.t.Helper()
	Until(d.t, "the failed disk is unmounted", func() error { return unix.Unmount(d.dir, 0) })
	mount(d.t, d.dir, "-o", "loop", d.image)
}

// mount needs root, as CI has it: a test that cannot fail its disk proves nothing,
// and so is not skipped.
func mount(t testing.TB, dir string, args ...string) {
	t.Helper()
	require.Zero(t, os.Geteuid(), "this test mounts file systems, which only root may: run it as root on Linux")
	out, err := exec.CommandContext(t.Context(), "mount", append(args, dir)...).CombinedOutput()
	require.NoError(t, err, "mount: %s", out)
	require.NoError(t, os.Chmod(dir, 0o700))
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) }) // a process may still end on it
}
