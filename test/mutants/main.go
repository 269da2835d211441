// Command mutants plants faults in the product, one at a time, and shows that a
// test finds each: a check that cannot fail proves nothing.
//
// A mutant is a file under faults: a line that says what is broken, the test that
// must fail, the file it changes, and what there is to replace, which has to occur
// in it exactly once. The compiler is given the changed file in the place of the
// real one (go test -overlay), so that nothing in the tree is touched but the
// records of failed runs that rapid keeps, which git ignores. A mutant
// that no longer applies, does not compile, or names no test is an error.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

const (
	faultsDir = "test/mutants/faults"
	suffix    = ".mutant"
	hang      = "3m"             // from when on a test that does not end has found the fault
	timeout   = 15 * time.Minute // of one test, with what it takes to build it
)

// mutant is one planted fault.
type mutant struct {
	name  string
	about string   // what is broken
	test  []string // arguments of go test: the package, and flags
	file  string
	old   string
	new   string
}

func main() {
	only := flag.String("run", "", "only mutants whose names contain this")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, *only); err != nil {
		fmt.Fprintln(os.Stderr, "mutants:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, only string) error {
	mutants, err := read(".")
	if err != nil {
		return err
	}
	mutants = slices.DeleteFunc(mutants, func(m mutant) bool { return !strings.Contains(m.name, only) })
	caught := 0
	var bad []string
	for _, m := range mutants {
		began := time.Now()
		found, err := m.try(ctx, ".")
		verdict := "caught"
		switch {
		case err != nil:
			verdict = "error: " + err.Error()
		case !found:
			verdict = "MISSED"
		default:
			caught++
		}
		if verdict != "caught" {
			bad = append(bad, m.name)
		}
		fmt.Printf("%-40s %s (%s, %v)\n", m.name, verdict, m.testName(), time.Since(began).Round(100*time.Millisecond))
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	fmt.Printf("%d of %d mutants caught\n", caught, len(mutants))
	if len(bad) > 0 {
		return fmt.Errorf("not caught: %s", strings.Join(bad, ", "))
	}
	return nil
}

// read reads all mutants of the module at root.
func read(root string) ([]mutant, error) {
	files, err := filepath.Glob(filepath.Join(root, faultsDir, "*"+suffix))
	if err != nil {
		return nil, err
	}
	if len(files) == 0 {
		return nil, fmt.Errorf("no mutants in %s: run this at the root of the module", filepath.Join(root, faultsDir))
	}
	var all []mutant
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			return nil, err
		}
		m, err := parse(strings.TrimSuffix(filepath.Base(f), suffix), string(text))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", f, err)
		}
		all = append(all, m)
	}
	return all, nil
}

// parse reads a mutant: lines "# what", "test: package flags", "file: path", and
// then what is replaced behind a line "--- old", and by what behind "--- new".
func parse(name, text string) (mutant, error) {
	m := mutant{name: name}
	head, rest, ok := strings.Cut(text, "--- old\n")
	if !ok {
		return m, errors.New(`no line "--- old"`)
	}
	if m.old, m.new, ok = strings.Cut(rest, "--- new\n"); !ok {
		return m, errors.New(`no line "--- new"`)
	}
	m.old, m.new = strings.TrimSuffix(m.old, "\n"), strings.TrimSuffix(m.new, "\n")
	for line := range strings.Lines(head) {
		line = strings.TrimSpace(line)
		if about, ok := strings.CutPrefix(line, "# "); ok {
			m.about = strings.TrimSpace(m.about + " " + about)
		} else if test, ok := strings.CutPrefix(line, "test: "); ok {
			m.test = strings.Fields(test)
		} else if file, ok := strings.CutPrefix(line, "file: "); ok {
			m.file = file
		} else if line != "" {
			return m, fmt.Errorf("what is %q?", line)
		}
	}
	if m.about == "" || len(m.test) < 3 || m.test[1] != "-run" || m.file == "" || m.old == "" {
		return m, errors.New("it says not what it breaks, where, or which test finds it (test: ./package -run TestName)")
	}
	return m, nil
}

func (m mutant) testName() string { return strings.Join(m.test, " ") }

// apply returns the file with the fault in it.
func (m mutant) apply(root string) (string, error) {
	text, err := os.ReadFile(filepath.Join(root, m.file))
	if err != nil {
		return "", fmt.Errorf("does not apply: %w", err)
	}
	if n := strings.Count(string(text), m.old); n != 1 {
		return "", fmt.Errorf("does not apply: what it replaces is %d times in %s", n, m.file)
	}
	return strings.Replace(string(text), m.old, m.new, 1), nil
}

// try runs the mutant's test and reports whether that finds the fault.
func (m mutant) try(ctx context.Context, root string) (found bool, err error) {
	text, err := m.apply(root)
	if err != nil {
		return false, err
	}
	dir, err := os.MkdirTemp("", "mutant-")
	if err != nil {
		return false, err
	}
	defer os.RemoveAll(dir)
	changed := filepath.Join(dir, filepath.Base(m.file))
	real, err := filepath.Abs(filepath.Join(root, m.file))
	if err != nil {
		return false, err
	}
	overlay, err := json.Marshal(map[string]any{"Replace": map[string]string{real: changed}})
	if err != nil {
		return false, err
	}
	replace := filepath.Join(dir, "overlay.json")
	if err := errors.Join(os.WriteFile(changed, []byte(text), 0o600), os.WriteFile(replace, overlay, 0o600)); err != nil {
		return false, err
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	args := append([]string{"test", "-vet=off", "-count=1", "-timeout", hang, "-overlay", replace}, m.test...)
	command := exec.CommandContext(ctx, "go", args...)
	command.Dir, command.WaitDelay = root, 5*time.Second
	out, err := command.CombinedOutput()
	switch output := string(out); {
	case ctx.Err() != nil:
		return false, fmt.Errorf("the test does not end: %w", ctx.Err())
	case strings.Contains(output, "no tests to run"):
		return false, errors.New("there is no such test")
	case strings.Contains(output, "[build failed]") || strings.Contains(output, "[setup failed]"):
		return false, fmt.Errorf("does not compile: %s", firstLines(output, 5))
	case err == nil:
		return false, nil
	case strings.Contains(output, "--- FAIL") || strings.Contains(output, "panic:"):
		return true, nil
	default:
		return false, fmt.Errorf("%w: %s", err, firstLines(output, 5))
	}
}

func firstLines(text string, n int) string {
	lines := strings.SplitN(text, "\n", n+1)
	return strings.Join(lines[:min(n, len(lines))], " / ")
}
