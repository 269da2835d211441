package durable

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// FreeBytes returns how many bytes may be written to a directory's disk.
func FreeBytes(dir string) (int64, error) {
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		return 0, fmt.Errorf("free space of %s: %w", dir, err)
	}
	return int64(s.Bavail) * int64(s.Bsize), nil
}
