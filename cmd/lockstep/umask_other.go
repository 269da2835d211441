//go:build !unix

package main

// keepFilesPrivate leaves files to what the directory's permissions are.
func keepFilesPrivate() {}
