package rest_test

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"testing"

	"github.com/stretchr/testify/require"

	"lockstep/fsm"
	"lockstep/server/rest"
)

// logged returns the lines of a log in JSON.
func logged(t *testing.T, log *bytes.Buffer) (lines []map[string]any) {
	for d := json.NewDecoder(log); d.More(); {
		var line map[string]any
		require.NoError(t, d.Decode(&line))
		lines = append(lines, line)
	}
	return lines
}

func TestRequestIsFoundInTheLogByTheIDOfItsAnswer(t *testing.T) {
	var log bytes.Buffer
	c := start(t, func(c *rest.Config) {
		c.Logger = slog.New(slog.NewJSONHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	})
	answer := c.send("GET", home+"/Documents/nonesuch?secret=x", "")
	require.Equal(t, 404, answer.Code)
	lines := logged(t, &log)
	require.Len(t, lines, 1)
	require.Equal(t, answer.Header().Get("Twilio-Request-Id"), lines[0]["request"])
	require.Equal(t, home+"/Documents/nonesuch", lines[0]["path"], "without parameters")
	require.EqualValues(t, 404, lines[0]["status"])
	require.EqualValues(t, 20404, lines[0]["code"])
}

func TestFaultIsFoundInTheLogByTheIDOfItsAnswer(t *testing.T) {
	var log bytes.Buffer
	c := start(t, func(c *rest.Config) { c.Logger = slog.New(slog.NewJSONHandler(&log, nil)) })
	require.Equal(t, 201, c.send("POST", home+"/Documents", "UniqueName=a").Code)
	require.Empty(t, logged(t, &log), "what is well has no line")
	c.node.propose = func(context.Context, *fsm.Command) (*fsm.Result, error) { panic("a surprise") }
	answer := c.send("POST", home+"/Documents", "UniqueName=b")
	require.Equal(t, 500, answer.Code)
	lines := logged(t, &log)
	require.Len(t, lines, 1)
	require.Equal(t, answer.Header().Get("Twilio-Request-Id"), lines[0]["request"])
	require.Contains(t, lines[0]["error"], "a surprise")
	require.Equal(t, "ERROR", lines[0]["level"])
}
