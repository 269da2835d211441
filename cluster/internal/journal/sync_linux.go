package journal

import (
	"os"
	"syscall"
)

// syncData syncs what is in a file and what it takes to read it, but not its times.
func syncData(f *os.File) error {
	for {
		if err := syscall.Fdatasync(int(f.Fd())); err != syscall.EINTR {
			return os.NewSyscallError("fdatasync", err)
		}
	}
}
