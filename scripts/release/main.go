// Release builds what a release consists of, into a directory: for each system an
// archive with the program, its manual pages and completions, and a list of its parts
// (CycloneDX); for Linux packages for Debian, too; and the checksums of all.
//
// It is a program of the standard library that calls the Go toolchain and two tools of
// pinned versions, as make verify does, in the place of goreleaser: what it does can be
// read in one sitting, and the same commit gives the same bytes on every machine. No
// file has the time, the user, or the directory of its making.
package main

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// The tools, each with its version.
const (
	nfpm      = "github.com/goreleaser/nfpm/v2/cmd/nfpm@v2.45.2"
	cyclonedx = "github.com/CycloneDX/cyclonedx-gomod/cmd/cyclonedx-gomod@v1.10.0"
)

const allTargets = "linux/amd64,linux/arm64,darwin/amd64,darwin/arm64"

// release is what is being built.
type release struct {
	ctx     context.Context
	version string
	epoch   time.Time // of every file: that of the commit
	out     string    // made anew beside what it takes the place of
	work    string    // made anew, and removed: what goes into the archives
}

// target is a system that the program is built for.
type target struct{ os, arch string }

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "release:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	r := release{ctx: ctx}
	var targets, to string
	flag.StringVar(&r.version, "version", "", "version of the release, such as v1.2.3")
	flag.StringVar(&to, "out", "dist", "directory to make; one that an earlier release made is replaced, any other is left alone")
	flag.StringVar(&targets, "targets", allTargets, "systems to build for")
	flag.Parse()
	if r.version == "" || flag.NArg() > 0 {
		return errors.New("usage: release -version VERSION [-out DIR] [-targets OS/ARCH,…]")
	}
	var err error
	if r.epoch, err = r.when(); err != nil {
		return err
	}
	if err := replaceable(to); err != nil {
		return err
	}
	if r.out, err = stage(to); err != nil {
		return err
	}
	defer os.RemoveAll(r.out)
	if r.work, err = os.MkdirTemp("", "lockstep-release-"); err != nil {
		return err
	}
	defer os.RemoveAll(r.work)
	if err := r.documents(); err != nil {
		return err
	}
	for _, name := range strings.Split(targets, ",") {
		system, arch, ok := strings.Cut(name, "/")
		if !ok {
			return fmt.Errorf("%q is not OS/ARCH", name)
		}
		if err := r.build(target{system, arch}); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	if err := r.checksums(); err != nil {
		return err
	}
	return r.replace(to)
}

// when returns the time that all files have: SOURCE_DATE_EPOCH, or that of the commit.
func (r *release) when() (time.Time, error) {
	text := os.Getenv("SOURCE_DATE_EPOCH")
	if text == "" {
		out, err := r.command("git", "log", "-1", "--format=%ct").Output()
		if err != nil {
			return time.Time{}, fmt.Errorf("ask git for the time of the commit, which SOURCE_DATE_EPOCH may say: %w", err)
		}
		text = string(out)
	}
	seconds, err := strconv.ParseInt(strings.TrimSpace(text), 10, 64)
	if err != nil {
		return time.Time{}, fmt.Errorf("SOURCE_DATE_EPOCH: %w", err)
	}
	return time.Unix(seconds, 0).UTC(), nil
}

func (r *release) command(name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(r.ctx, name, args...)
	cmd.Stderr = os.Stderr
	return cmd
}

// compile builds the program for a target.
func (r *release) compile(t target, to string) error {
	cmd := r.command("go", "build", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w -buildid= -X main.version="+r.version, "-o", to, "./cmd/lockstep")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=", "GOOS="+t.os, "GOARCH="+t.arch, "GOAMD64=v1", "GOARM64=v8.0")
	return cmd.Run()
}

// documents has the program write its manual pages and completions, which are the same
// for all systems.
func (r *release) documents() error {
	here := filepath.Join(r.work, "here")
	if err := r.compile(target{runtime.GOOS, runtime.GOARCH}, here); err != nil {
		return err
	}
	pages := filepath.Join(r.work, "man")
	if err := r.command(here, "man", pages).Run(); err != nil {
		return fmt.Errorf("manual pages: %w", err)
	}
	entries, err := os.ReadDir(pages)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := squeeze(filepath.Join(pages, e.Name())); err != nil {
			return err
		}
	}
	completions := filepath.Join(r.work, "completions")
	if err := os.MkdirAll(completions, 0o755); err != nil {
		return err
	}
	for shell, file := range map[string]string{"bash": "lockstep", "zsh": "_lockstep", "fish": "lockstep.fish"} {
		text, err := r.command(here, "completion", shell).Output()
		if err != nil {
			return fmt.Errorf("completion of %s: %w", shell, err)
		}
		if err := os.WriteFile(filepath.Join(completions, file), text, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// squeeze replaces a file by its gzip form, without a time.
func squeeze(path string) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	var b bytes.Buffer
	z, err := gzip.NewWriterLevel(&b, gzip.BestCompression)
	if err != nil {
		return err
	}
	if _, err := z.Write(text); err != nil {
		return err
	}
	if err := z.Close(); err != nil {
		return err
	}
	if err := os.WriteFile(path+".gz", b.Bytes(), 0o644); err != nil {
		return err
	}
	return os.Remove(path)
}

// build makes all files of one target.
func (r *release) build(t target) error {
	name := fmt.Sprintf("lockstep_%s_%s_%s", strings.TrimPrefix(r.version, "v"), t.os, t.arch)
	program := filepath.Join(r.work, t.os+"_"+t.arch, "lockstep")
	if err := r.compile(t, program); err != nil {
		return err
	}
	if err := r.archive(name, program); err != nil {
		return err
	}
	parts := filepath.Join(r.out, name+".cdx.json")
	tool := r.tool(cyclonedx, "bin", "-json", "-noserial", "-notimestamp", "-std", "-version", r.version, "-output", parts, program)
	if out, err := tool.CombinedOutput(); err != nil {
		return fmt.Errorf("list of parts: %w\n%s", err, out)
	}
	if t.os != "linux" {
		return nil
	}
	return r.debian(t, program)
}

// tool is a Go program of a pinned version, on this machine.
func (r *release) tool(module string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(r.ctx, "go", append([]string{"run", module}, args...)...)
	cmd.Env = append(os.Environ(), "SOURCE_DATE_EPOCH="+strconv.FormatInt(r.epoch.Unix(), 10))
	return cmd
}

// debian makes a package of what scripts/package/nfpm.yaml lists.
func (r *release) debian(t target, program string) error {
	cmd := r.tool(nfpm, "package", "--config", "scripts/package/nfpm.yaml", "--packager", "deb", "--target", r.out)
	cmd.Env = append(cmd.Env, "LOCKSTEP_VERSION="+debianVersion(r.version), "LOCKSTEP_ARCH="+t.arch,
		"LOCKSTEP_PROGRAM="+program, "LOCKSTEP_WORK="+r.work)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("package for Debian: %w\n%s", err, out)
	}
	return nil
}

// debianVersion returns a version as dpkg sorts it; one without a number, of a commit
// before the first release, comes before all others.
func debianVersion(version string) string {
	number := strings.TrimPrefix(version, "v")
	if number == "" || number[0] < '0' || number[0] > '9' || !strings.Contains(number, ".") {
		return "0~" + number
	}
	return number
}

// checksums writes the SHA-256 of every file, as sha256sum -c reads it.
func (r *release) checksums() error {
	var sums strings.Builder
	entries, err := os.ReadDir(r.out) // sorted
	if err != nil {
		return err
	}
	for _, e := range entries {
		content, err := os.ReadFile(filepath.Join(r.out, e.Name()))
		if err != nil {
			return err
		}
		fmt.Fprintf(&sums, "%x  %s\n", sha256.Sum256(content), e.Name())
	}
	return os.WriteFile(filepath.Join(r.out, sumsFile), []byte(sums.String()), 0o644)
}
