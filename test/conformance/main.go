// Conformance runs the conformance suites against a fresh cluster of three
// nodes (`lockstep dev`, default limits) and prints how many cases of each
// passed. It fails if any failed.
//
//	go run ./test/conformance -binary bin/lockstep [-suites DIR] [-only sdk]
//
// A suite is taken as it is: it is copied to a temporary folder, with the API
// description that it expects beside it, and run there.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// runTime bounds all suites together.
const runTime = 24 * time.Minute

func main() {
	binary := flag.String("binary", "bin/lockstep", "the program under test")
	suites := flag.String("suites", "test/conformance", "folder of the suites")
	only := flag.String("only", "", "run only this suite: "+strings.Join(names(), ", "))
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, runTime)
	defer cancel()
	if err := run(ctx, *binary, *suites, *only); err != nil {
		fmt.Fprintln(os.Stderr, "conformance:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, binary, suites, only string) (err error) {
	dir, err := os.MkdirTemp("", "lockstep-conformance-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if err := copySuites(suites, dir); err != nil {
		return fmt.Errorf("copy suites: %w", err)
	}
	cluster, err := startCluster(ctx, binary, filepath.Join(dir, "data"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, cluster.stop()) }()

	chosen := slices.DeleteFunc(slices.Clone(all), func(s suite) bool { return only != "" && s.name != only })
	if len(chosen) == 0 {
		return fmt.Errorf("there is no suite %q", only)
	}
	results, err := runAll(ctx, chosen, filepath.Join(dir, "conformance"), cluster.environment())
	err = errors.Join(err, cluster.verify(ctx))
	failed := false
	for i, r := range results {
		failed = failed || r.failed > 0
		fmt.Printf("conformance %-12s %d passed, %d failed\n", chosen[i].name, r.passed, r.failed)
	}
	if err == nil && failed {
		err = errors.New("cases failed")
	}
	return err
}

// runAll runs suites, those of one stage side by side.
func runAll(ctx context.Context, chosen []suite, dir string, env []string) ([]result, error) {
	results, errs := make([]result, len(chosen)), make([]error, len(chosen))
	for stage := range stages {
		var running sync.WaitGroup
		for i, s := range chosen {
			if s.stage != stage {
				continue
			}
			running.Go(func() {
				begin := time.Now()
				fmt.Printf("== conformance %s\n", s.name)
				if results[i], errs[i] = s.run(ctx, filepath.Join(dir, s.folder), env); errs[i] != nil {
					errs[i] = fmt.Errorf("%s: %w", s.name, errs[i])
				}
				fmt.Printf("== conformance %s took %v\n", s.name, time.Since(begin).Round(time.Second))
			})
		}
		running.Wait()
	}
	return results, errors.Join(errs...)
}

// copySuites lays the suites and the API description out as they stand in
// their own repository: DIR/conformance and DIR/spec.
func copySuites(from, to string) error {
	from, err := filepath.Abs(from)
	if err != nil {
		return err
	}
	for source, target := range map[string]string{from: "conformance", filepath.Join(from, "..", "spec"): "spec"} {
		if err := copyTree(source, filepath.Join(to, target)); err != nil {
			return err
		}
	}
	return nil
}

// copyTree copies files and folders, which the copy's owner may write to.
// Installed packages are left out.
func copyTree(from, to string) error {
	return filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		switch {
		case d.IsDir() && d.Name() == "node_modules":
			return filepath.SkipDir
		case d.IsDir():
			return os.MkdirAll(filepath.Join(to, rel), 0o755)
		case !d.Type().IsRegular():
			return nil
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(to, rel), content, 0o644)
	})
}

// command makes a command whose whole family of processes ends with ctx.
func command(ctx context.Context, dir string, env []string, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 5 * time.Second
	return cmd
}
