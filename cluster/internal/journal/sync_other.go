//go:build !linux

package journal

import "os"

// syncData syncs a file.
func syncData(f *os.File) error { return f.Sync() }
