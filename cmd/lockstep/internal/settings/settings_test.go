package settings

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/pflag"
	"github.com/stretchr/testify/require"
)

// sample is a command with a few settings.
type sample struct {
	*Settings
	flags  *pflag.FlagSet
	port   int
	seeds  []string
	level  string
	secret string
}

func newSample(t *testing.T) *sample {
	t.Helper()
	s := new(sample)
	unlisted := pflag.NewFlagSet("", pflag.ContinueOnError)
	s.flags = pflag.NewFlagSet("", pflag.ContinueOnError)
	unlisted.StringVar(&s.secret, "auth-token", "", "a token")
	s.flags.IntVar(&s.port, "http-port", 8080, "a port [HTTP_PORT]")
	s.flags.StringSliceVar(&s.seeds, "seed", nil, "seeds")
	s.flags.StringVar(&s.level, "log-level", "INFO", "a | level")
	for _, x := range []struct {
		set            *pflag.FlagSet
		name, variable string
	}{{unlisted, "auth-token", "AUTH_TOKEN"}, {s.flags, "http-port", "HTTP_PORT"}, {s.flags, "seed", "SEED"}, {s.flags, "log-level", "LOG_LEVEL"}} {
		require.NoError(t, x.set.SetAnnotation(x.name, Environment, []string{x.variable}))
		require.NoError(t, x.set.SetAnnotation(x.name, Part, []string{"All"}))
	}
	require.NoError(t, unlisted.SetAnnotation("auth-token", Secret, []string{}))
	require.NoError(t, s.flags.SetAnnotation("log-level", Live, []string{}))
	s.Settings = New(s.flags, unlisted)
	return s
}

// load loads a file's text with an environment.
func (s *sample) load(t *testing.T, text string, environment map[string]string) (path string, err error) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "x.yaml")
	require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	file, err := ReadFile(path)
	if err != nil {
		return path, err
	}
	return path, s.Load(file, func(name string) (string, bool) {
		value, ok := environment[name]
		return value, ok
	})
}

func TestTheCommandLineComesBeforeTheEnvironmentBeforeTheFile(t *testing.T) {
	s := newSample(t)
	require.NoError(t, s.flags.Parse([]string{"--log-level=WARN"}))
	path, err := s.load(t, "log-level: DEBUG\nhttp-port: 1\nseed: [a, b]\nauth-token: t\n", map[string]string{"LOG_LEVEL": "ERROR", "HTTP_PORT": "2", "SEED": ""})
	require.NoError(t, err)
	require.Equal(t, "WARN", s.level)
	require.Equal(t, 2, s.port)
	require.Equal(t, []string{"a", "b"}, s.seeds)
	require.Equal(t, "t", s.secret)
	require.Equal(t, "the command line", s.Source("log-level"))
	require.Equal(t, "HTTP_PORT", s.Source("http-port"))
	require.Equal(t, path+":3", s.Source("seed"))

	again := newSample(t)
	require.NoError(t, Repeat(s.flags, again.flags))
	require.NoError(t, again.Load(nil, func(string) (string, bool) { return "", false }))
	require.Equal(t, "WARN", again.level)
	require.Equal(t, 8080, again.port)
	require.Empty(t, again.Source("http-port"))
}

func TestFaultsNameFileAndLine(t *testing.T) {
	for text, want := range map[string]string{
		"\nhttp-prot: 1":               `:2: there is no setting "http-prot"; did you mean "http-port"?`,
		"http_port: 1":                 `did you mean "http-port"?`,
		"something-else: 1":            `:1: there is no setting "something-else"`,
		"\n\nhttp-port: many":          `:3: http-port: "many" is not a value for it`,
		"http-port: 1\nhttp-port: 2":   ":2: http-port is set in line 1 already",
		"http-port:":                   ":1: http-port: it has no value",
		"http-port: [1, 2]":            ":1: http-port: it is one value, not a list",
		"seed: [[a]]":                  ":1: seed: expected one value, or a list of values",
		"seed: {a: b}":                 ":1: seed: expected one value, or a list of values",
		"- a":                          `:1: expected lines such as "http-port: 8080"`,
		"http-port: 1\n\tseed: a":      "line 2",
		"log-level: \"unterminated":    "unexpected end",
		"seed: a\n---\nhttp-port: 1\n": "there is more after the end of the settings",
	} {
		path, err := newSample(t).load(t, text, nil)
		require.ErrorContains(t, err, want, text)
		require.ErrorContains(t, err, path, text)
	}
	_, err := newSample(t).load(t, "nonsense: 1\nhttp-port: x\n", map[string]string{"LOG_LEVEL": ""})
	require.Len(t, strings.Split(err.Error(), "\n"), 2, "all faults are told: %v", err)
	_, err = newSample(t).load(t, "", map[string]string{"HTTP_PORT": "x"})
	require.ErrorContains(t, err, `HTTP_PORT=x: "x" is not a value for it`)
	_, err = newSample(t).load(t, strings.Repeat("#", maxFile+1), nil)
	require.ErrorContains(t, err, "larger")
}

func TestAnEmptyFileSetsNothing(t *testing.T) {
	for _, text := range []string{"", "# a comment\n", "---\n"} {
		s := newSample(t)
		_, err := s.load(t, text, nil)
		require.NoError(t, err, text)
		require.Equal(t, 8080, s.port)
	}
}

func TestASecretStandsInNoFileThatEverybodyMayRead(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.yaml")
	require.NoError(t, os.WriteFile(path, []byte("auth-token: t\n"), 0o644))
	file, err := ReadFile(path)
	require.NoError(t, err)
	none := func(string) (string, bool) { return "", false }
	require.ErrorContains(t, newSample(t).Load(file, none), "chmod 600 "+path)
	require.NoError(t, newSample(t).Load(file, func(name string) (string, bool) { return "x", name == "AUTH_TOKEN" }), "it is not used")
}

// What is shown can be read again, but for the secrets, which are not shown.
func TestShowIsAFile(t *testing.T) {
	s := newSample(t)
	path, err := s.load(t, "seed: [\"*:1\", b]\nauth-token: mine\nlog-level: \"\"", map[string]string{"HTTP_PORT": "7"})
	require.NoError(t, err)
	var out strings.Builder
	require.NoError(t, s.Show(&out))
	require.Equal(t, `auth-token: "********" # `+path+`:2
http-port: 7 # HTTP_PORT
seed: # `+path+`:1
  - "*:1"
  - b
log-level: "" # `+path+`:3
`, out.String())

	again := newSample(t)
	_, err = again.load(t, out.String(), nil)
	require.NoError(t, err)
	require.Equal(t, s.seeds, again.seeds)
	require.Equal(t, 7, again.port)

	out.Reset()
	require.NoError(t, newSample(t).Show(&out))
	require.Equal(t, "auth-token: \"\" # default\nhttp-port: 8080 # default\nseed: [] # default\nlog-level: INFO # default\n", out.String())
}

func TestReference(t *testing.T) {
	var out strings.Builder
	require.NoError(t, newSample(t).Reference(&out))
	require.Equal(t, "\n## All\n\n| key | variable | default | |\n|---|---|---|---|\n"+
		"| `auth-token` | `AUTH_TOKEN` |  | a token |\n| `http-port` | `HTTP_PORT` | `8080` | a port |\n"+
		"| `seed` | `SEED` |  | seeds |\n| `log-level` ↻ | `LOG_LEVEL` | `INFO` | a \\| level |\n", out.String())
}

func TestNearest(t *testing.T) {
	names := []string{"http-port", "http-addr", "seed"}
	for word, want := range map[string]string{"htp-port": "http-port", "http-adr": "http-addr", "port": "", "sed": "seed", "": "", "Seed": "seed"} {
		require.Equal(t, want, Nearest(word, names), word)
	}
	require.Equal(t, 3, distance("kitten", "sitting"))
}
