package server

import (
	"bufio"
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"lockstep/objects"
	"lockstep/server/admin"
	"lockstep/server/limits"
)

func emulatorConfig() Config {
	return Config{
		HTTPAddr: "127.0.0.1:0", Account: testAccount, RateLimits: limits.Default(), Logger: slog.New(slog.DiscardHandler),
		Emulator: &Emulator{APIKey: "SK" + strings.Repeat("b2", 16), APISecret: "secret", Serving: func(string) {}},
	}
}

// emulate runs an emulator until stop is called. ended has then what became of it.
func emulate(t *testing.T) (c Config, url string, stop func(), ended <-chan error) {
	t.Helper()
	c, serving := emulatorConfig(), make(chan string, 1)
	c.Emulator.Serving = func(url string) { serving <- url }
	s, err := New(c)
	require.NoError(t, err)
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	return c, <-serving, stop, done
}

// Those who reset it at the same time are answered when it has begun anew, and its key
// is there each time; one that stops meanwhile answers, too.
func TestEmulatorBeginsAnew(t *testing.T) {
	c, url, stop, ended := emulate(t)
	defer http.DefaultClient.CloseIdleConnections()
	client := &admin.Client{URLs: []string{url}, AccountSID: testAccount.SID, AuthToken: testAccount.AuthToken}
	made, err := client.CreateKey(t.Context(), admin.NewKey{})
	require.NoError(t, err)

	reset := func() int {
		req, err := http.NewRequest(http.MethodPost, url+admin.ResetPath, nil)
		require.NoError(t, err)
		req.SetBasicAuth(testAccount.SID, testAccount.AuthToken)
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			return 0
		}
		res.Body.Close()
		return res.StatusCode
	}
	var resets sync.WaitGroup
	for range 3 {
		resets.Go(func() {
			for begun := time.Now(); reset() != http.StatusNoContent; { // 503: it was beginning anew already
				if time.Since(begun) > time.Minute {
					t.Error("it is never reset")
					return
				}
			}
		})
	}
	resets.Wait()
	keys, err := client.Keys(t.Context())
	require.NoError(t, err)
	require.Len(t, keys, 1)
	require.Equal(t, c.Emulator.APIKey, keys[0].SID)
	require.NotEqual(t, made.SID, keys[0].SID)

	resets.Go(func() { reset() })
	stop()
	require.NoError(t, <-ended)
	resets.Wait()
}

// While an emulator that is to stop waits for its clients, it begins no more anew.
func TestEmulatorThatStopsIsNotReset(t *testing.T) {
	c, url, stop, ended := emulate(t)
	client, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
	require.NoError(t, err)
	defer client.Close()
	request, err := http.NewRequest(http.MethodPost, "http://a/v1/Services", nil)
	require.NoError(t, err)
	request.SetBasicAuth(testAccount.SID, testAccount.AuthToken)
	_, err = io.WriteString(client, "POST /v1/Services HTTP/1.1\r\nHost: a\r\nAuthorization: "+request.Header.Get("Authorization")+
		"\r\nContent-Type: application/x-www-form-urlencoded\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n")
	require.NoError(t, err)
	answers := bufio.NewReader(client)
	line, err := answers.ReadString('\n')
	require.NoError(t, err)
	require.Contains(t, line, "100 Continue", "the request is under way")

	stop()
	waiting, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	require.ErrorIs(t, c.Emulator.reset(waiting), objects.ErrUnavailable)
	_, err = io.WriteString(client, "x")
	require.NoError(t, err)
	require.NoError(t, <-ended)
	rest, err := io.ReadAll(answers)
	require.NoError(t, err)
	require.Contains(t, string(rest), "HTTP/1.1 201 Created")
}

func TestEmulatorRefusesWhatItCannotKeep(t *testing.T) {
	for part, change := range map[string]func(*Config){
		"--data-dir":          func(c *Config) { c.DataDir = "x" },
		"backups":             func(c *Config) { c.Backups.Dir = "x" },
		"joins nobody":        func(c *Config) { c.Join = "http://127.0.0.1:1" },
		"LOCKSTEP_API_KEY":    func(c *Config) { c.Emulator.APIKey = "AC" + strings.Repeat("b2", 16) },
		"LOCKSTEP_API_SECRET": func(c *Config) { c.Emulator.APISecret = "" },
	} {
		c := emulatorConfig()
		change(&c)
		_, err := New(c)
		require.ErrorContains(t, err, part)
	}
}
