package main

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/spf13/cobra"

	"lockstep/cmd/lockstep/internal/client"
	"lockstep/cmd/lockstep/internal/explain"
	"lockstep/cmd/lockstep/internal/live"
	"lockstep/objects"
	"lockstep/server"
	"lockstep/server/admin"
	"lockstep/server/enrol"
)

// Exit codes.
const (
	exitDone     = 0
	exitFailure  = 1
	exitUsage    = 2
	exitState    = 3
	exitDisk     = 4
	exitMissing  = 5
	exitConflict = 6
	exitRefused  = 7
	exitBusy     = 8
)

// exitCodes is what each says.
var exitCodes = []struct {
	code    int
	meaning string
}{
	{exitDone, "Done."},
	{exitFailure, "Failed or refused, for a reason that has no code of its own."},
	{exitUsage, "A wrong call: nothing was asked of any node. --help says how it is called."},
	{exitState, "The node cannot go on with the data that it has, or a backup is damaged: standard error says what mends that; starting it again does not."},
	{exitDisk, "A write to the node's disk failed, and nothing was written after it: when the disk is well, start the node again."},
	{exitMissing, "What the command is about is not there (404)."},
	{exitConflict, "It is there already, or was changed meanwhile: the name or key is taken (409), --if-match does not match (412)."},
	{exitRefused, "Not let in: wrong credentials, or they do not allow this (401, 403)."},
	{exitBusy, "No node answers, or there is too much to do for now (429, 503, 507): the same call may succeed later."},
}

// newExitCodes is a topic of the help.
func newExitCodes() *cobra.Command {
	var text strings.Builder
	text.WriteString("What a command's exit code says:\n\n")
	for _, e := range exitCodes {
		fmt.Fprintf(&text, "  %d  %s\n", e.code, e.meaning)
	}
	text.WriteString(`
5 to 8 are those of the commands about services and objects: service, doc, list, map,
stream, perm and watch. Others end with 1 then. An error is one line on standard
error; a second one, which begins with "lockstep: next:", says what to do about it.`)
	return &cobra.Command{Use: "exit-codes", Short: "What the exit codes say", Long: text.String()}
}

// exitCode returns the code that an error ends the program with.
func exitCode(err error) int {
	if _, lost := errors.AsType[enrol.StateError](err); lost {
		return exitState
	}
	if _, disk := errors.AsType[server.DiskError](err); disk {
		return exitDisk
	}
	if _, failed := errors.AsType[failure](err); !failed {
		return exitUsage
	}
	if errors.Is(err, errMissing) {
		return exitMissing
	}
	if errors.Is(err, client.ErrUnreachable) || errors.Is(err, live.ErrUnreachable) {
		return exitBusy
	}
	if refused, ok := errors.AsType[*client.Error](err); ok {
		return exitOfStatus(refused.Status)
	}
	if refused, ok := errors.AsType[*live.Refusal](err); ok {
		return exitOfStatus(refused.Status)
	}
	return exitFailure
}

// errMissing is in an error of a command that has found itself that something is
// not there.
var errMissing = errors.New("not found")

func exitOfStatus(status int) int {
	switch status {
	case http.StatusNotFound:
		return exitMissing
	case http.StatusConflict, http.StatusPreconditionFailed:
		return exitConflict
	case http.StatusUnauthorized, http.StatusForbidden:
		return exitRefused
	case http.StatusTooManyRequests, http.StatusServiceUnavailable, http.StatusInsufficientStorage:
		return exitBusy
	}
	return exitFailure
}

// nextStep returns what to do about an error, where the error does not say it
// itself; "" if that is all.
func nextStep(err error, asked *cobra.Command) string {
	if e, ok := errors.AsType[*client.Error](err); ok {
		return explain.Advice(e.Code, e.Status, e.Message)
	}
	if e, ok := errors.AsType[*live.Refusal](err); ok {
		return explain.Advice(e.Code, e.Status, e.Message)
	}
	if e, ok := errors.AsType[*objects.Error](err); ok { // by the operators' API
		if e.Code == objects.ErrNotFound.Code {
			return "lockstep status shows the nodes that there are, and lockstep keys list the API keys."
		}
		return explain.Advice(e.Code, e.Status, e.Message)
	}
	if _, unknown := errors.AsType[x509.UnknownAuthorityError](err); unknown {
		return "Nobody whom this machine believes vouches for the certificate: name the file with the authority, or with the certificate, by --ca or LOCKSTEP_CA; lockstep context add --ca keeps it."
	}
	for _, unreachable := range []error{client.ErrUnreachable, live.ErrUnreachable, admin.ErrUnreachable} {
		if errors.Is(err, unreachable) && !errors.Is(err, context.Canceled) {
			return "Check that the URL is right and the node runs there: curl URL/readyz says whether it serves."
		}
	}
	_, failed := errors.AsType[failure](err)
	_, misused := errors.AsType[usage](err)
	switch {
	case failed || misused || asked == nil:
		return ""
	case !asked.Runnable() || asked.HasAvailableSubCommands() && !asked.HasExample(): // it only holds others
		return asked.CommandPath() + " --help lists its commands."
	}
	return "Call it as " + asked.UseLine() + "; see " + asked.CommandPath() + " --help."
}
