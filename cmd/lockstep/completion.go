package main

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/spf13/cobra"

	"lockstep/cmd/lockstep/internal/client"
	"lockstep/cmd/lockstep/internal/contexts"
)

// What a shell offers to somebody who presses the tab key. The cluster is asked that
// the command would be about; what fails offers nothing, and says nothing.

const (
	// completionTime is how long somebody waits who pressed a key.
	completionTime = 2 * time.Second

	// maxLookedAt is how many services, objects or items are looked at.
	maxLookedAt = 1000

	onlyThese = cobra.ShellCompDirectiveNoFileComp
)

// completeContexts offers the names of contexts.
func completeContexts(*cobra.Command, []string, string) ([]cobra.Completion, cobra.ShellCompDirective) {
	file, err := contexts.Load()
	if err != nil {
		return nil, onlyThese
	}
	return file.Names(), onlyThese
}

// completeServices offers services by their names, or by their SIDs.
func (t *target) completeServices(cmd *cobra.Command, args []string, begun string) ([]cobra.Completion, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, onlyThese
	}
	at := func(context.Context, *client.Client, access) (string, error) { return client.Path("Services"), nil }
	return t.offers(cmd, at, func(raw json.RawMessage) (offered []cobra.Completion) {
		var s service
		if decode(raw, &s) != nil {
			return nil
		}
		for _, name := range []*string{s.UniqueName, s.FriendlyName} {
			if name != nil {
				offered = append(offered, offer(*name, s.SID, begun)...)
			}
		}
		return append(offered, offerSID(s.SID, "IS", begun, len(offered) == 0)...)
	}), onlyThese
}

// completeServiceFlag offers services as the value of a flag, whatever the arguments.
func (t *target) completeServiceFlag(cmd *cobra.Command, _ []string, begun string) ([]cobra.Completion, cobra.ShellCompDirective) {
	return t.completeServices(cmd, nil, begun)
}

// completeNames offers the objects of a kind as the first argument.
func (p *place) completeNames(k kind) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, begun string) ([]cobra.Completion, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, onlyThese
		}
		return p.objects(cmd, k, begun), onlyThese
	}
}

// completeItems offers the objects of a kind as the first argument, and the keys or
// indexes of the items of that one as the second.
func (p *place) completeItems(k kind) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, begun string) ([]cobra.Completion, cobra.ShellCompDirective) {
		switch {
		case len(args) == 0:
			return p.objects(cmd, k, begun), onlyThese
		case len(args) > 1 || !k.holdsItems():
			return nil, onlyThese
		}
		return p.offers(cmd, p.path(k.collection, args[0], "Items"), func(raw json.RawMessage) []cobra.Completion {
			var r resource
			if decode(raw, &r) != nil {
				return nil
			}
			return offer(r.name(), "", begun)
		}), onlyThese
	}
}

// completeObject offers an OBJECT as the first argument: first its kind, then its name.
func (p *place) completeObject(of ...kind) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, begun string) ([]cobra.Completion, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, onlyThese
		}
		parts := strings.SplitN(begun, "/", 3)
		at := 0
		if _, isKind := kindOf(parts[0]); !isKind && len(parts) > 1 {
			at, p.service = 1, parts[0]
		}
		before := strings.Join(parts[:at], "/")
		if before != "" {
			before += "/"
		}
		k, isKind := kindOf(parts[at])
		if !isKind || len(parts) == at+1 {
			var words []cobra.Completion
			for _, k := range of {
				words = append(words, offer(before+k.word+"/", k.about, begun)...)
			}
			return words, onlyThese | cobra.ShellCompDirectiveNoSpace
		}
		before += parts[at] + "/"
		offered := p.objects(cmd, k, strings.TrimPrefix(begun, before))
		for i := range offered {
			offered[i] = before + offered[i]
		}
		return offered, onlyThese
	}
}

// objects offers the objects of a kind by their names, or by their SIDs.
func (p *place) objects(cmd *cobra.Command, k kind, begun string) []cobra.Completion {
	return p.offers(cmd, p.path(k.collection), func(raw json.RawMessage) (offered []cobra.Completion) {
		var r resource
		if decode(raw, &r) != nil {
			return nil
		}
		if r.UniqueName != nil {
			offered = offer(*r.UniqueName, r.SID, begun)
		}
		return append(offered, offerSID(r.SID, k.prefix, begun, r.UniqueName == nil)...)
	})
}

// path returns what finds a path in the service.
func (p *place) path(below ...string) pathFinder {
	return func(ctx context.Context, c *client.Client, a access) (string, error) {
		service, err := findService(ctx, c, p.serviceOr(a.Service))
		return client.Path(slices.Concat([]string{"Services", service}, below)...), err
	}
}

type pathFinder func(context.Context, *client.Client, access) (string, error)

// offers reads the collection at a path, and returns what is offered of its entries.
func (t *target) offers(cmd *cobra.Command, path pathFinder, of func(json.RawMessage) []cobra.Completion) (offered []cobra.Completion) {
	if fromEnvironment(cmd.Flags()) != nil {
		return nil
	}
	a, err := t.access(cmd.Flags())
	if err != nil {
		return nil
	}
	c := a.rest()
	c.Patience = time.Nanosecond // nothing is tried again
	ctx, cancel := context.WithTimeout(cmd.Context(), completionTime)
	defer cancel()
	at, err := path(ctx, c, a)
	if err != nil {
		return nil
	}
	seen := 0
	for raw, err := range c.All(ctx, at, nil) {
		if seen++; err != nil || seen > maxLookedAt {
			break
		}
		offered = append(offered, of(raw)...)
	}
	return offered
}

// offer offers a word if it goes on with what has been typed, and the shell can take it.
func offer(word, about, begun string) []cobra.Completion {
	if !strings.HasPrefix(word, begun) || strings.ContainsFunc(word, unicode.IsControl) {
		return nil
	}
	if about == "" {
		return []cobra.Completion{word}
	}
	return []cobra.Completion{cobra.CompletionWithDesc(word, about)}
}

// offerSID offers a SID of what has no name, or to somebody who types one.
func offerSID(sid, prefix, begun string, nameless bool) []cobra.Completion {
	if nameless || strings.HasPrefix(begun, prefix) {
		return offer(sid, "", begun)
	}
	return nil
}
