package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strconv"
)

// suite is one of the conformance suites.
type suite struct {
	name, folder string
	stage        int      // suites of one stage run side by side
	setUp        []string // a command; nil for none
	test         []string
	count        func(output []byte) (result, error)
}

type result struct{ passed, failed int }

// all are the suites. The first one measures time and has the cluster to
// itself; the others mostly wait.
var all = []suite{
	{name: "rest/node", folder: "rest/node", stage: 0, setUp: npmInstall, test: npmTest, count: countNode},
	{name: "rest/go", folder: "rest/go", stage: 1, test: []string{"go", "test", "-count=1", "-v", "./..."}, count: countGo},
	{name: "sdk", folder: "sdk", stage: 1, setUp: npmInstall, test: npmTest, count: countNode},
	{name: "sdk-versions", folder: "sdk-versions", stage: 1, setUp: npmInstall, test: npmTest, count: countVersions},
	{name: "field", folder: "field", stage: 1, setUp: npmInstall, test: npmTest, count: countField},
}

const stages = 2

var (
	npmInstall = []string{"npm", "ci", "--no-audit", "--no-fund", "--loglevel=error"}
	npmTest    = []string{"npm", "test", "--silent"}
)

func names() []string {
	var out []string
	for _, s := range all {
		out = append(out, s.name)
	}
	return out
}

// run runs a suite and counts its cases. The output is shown if any failed.
func (s suite) run(ctx context.Context, dir string, env []string) (result, error) {
	if s.setUp != nil {
		if out, err := command(ctx, dir, env, s.setUp[0], s.setUp[1:]...).CombinedOutput(); err != nil {
			return result{}, fmt.Errorf("%w\n%s", err, out)
		}
	}
	out, err := command(ctx, dir, env, s.test[0], s.test[1:]...).CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return result{}, err
	}
	r, countErr := s.count(out)
	if err != nil || countErr != nil || r.failed > 0 {
		os.Stdout.Write(out)
	}
	switch {
	case countErr != nil:
		return r, countErr
	case err != nil && r.failed == 0:
		return r, fmt.Errorf("no case failed, but the suite did: %w", err)
	}
	return r, nil
}

var nodeSummary = regexp.MustCompile(`(?m)^. (tests|pass|fail|cancelled|skipped|todo) (\d+)$`)

// countNode reads the summary of node's test runner. What was not run, for
// whatever reason, has not passed.
func countNode(out []byte) (result, error) {
	counts := map[string]int{}
	for _, m := range nodeSummary.FindAllSubmatch(out, -1) {
		n, err := strconv.Atoi(string(m[2]))
		if err != nil {
			return result{}, err
		}
		counts[string(m[1])] = n
	}
	tests, found := counts["tests"]
	if !found || tests == 0 {
		return result{}, errors.New("the output has no summary")
	}
	return result{passed: counts["pass"], failed: tests - counts["pass"]}, nil
}

var notInVersion = regexp.MustCompile(`(?m)^. \S+ .* # no \w+ in [\d.]+$`)

// countVersions leaves out the cases about what a version of the client does
// not have. Whatever else was skipped has not passed.
func countVersions(out []byte) (result, error) {
	r, err := countNode(out)
	r.failed -= len(notInVersion.FindAll(out, -1))
	return r, err
}

var fieldSummary = regexp.MustCompile(`(?m)^(\d+) passed, (\d+) failed$`)

// countField reads the last line of the field cases.
func countField(out []byte) (result, error) {
	m := fieldSummary.FindSubmatch(out)
	if m == nil {
		return result{}, errors.New("the output has no summary")
	}
	passed, err := strconv.Atoi(string(m[1]))
	if err != nil {
		return result{}, err
	}
	failed, err := strconv.Atoi(string(m[2]))
	return result{passed: passed, failed: failed}, err
}

// countGo counts the cases of a verbose run.
func countGo(out []byte) (result, error) {
	count := func(verdict string) int {
		return bytes.Count(append([]byte("\n"), out...), []byte("\n--- "+verdict+": "))
	}
	r := result{passed: count("PASS"), failed: count("FAIL") + count("SKIP")}
	if r == (result{}) {
		return r, errors.New("the output has no case")
	}
	return r, nil
}
