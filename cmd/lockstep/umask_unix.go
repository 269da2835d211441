//go:build unix

package main

import "syscall"

// keepFilesPrivate makes what this process and its children write readable for
// its owner only, libraries' files among them: the log, snapshots and node.json
// hold everybody's data and secrets.
func keepFilesPrivate() { syscall.Umask(0o077) }
