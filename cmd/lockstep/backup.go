package main

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	"lockstep/server/admin"
	"lockstep/server/backup"
	"lockstep/server/enrol"
)

func newBackup() *cobra.Command {
	var t target
	var replace, asJSON bool
	cmd := &cobra.Command{
		Use:   "backup FILE",
		Short: "Write the cluster's whole state to a file, while it serves",
		Long: `Write the whole state of a running cluster to a file, through any of its nodes: all
that was acknowledged before the command was given, as of one log index. FILE is - for
standard output.

The file appears when it is whole, checked and on disk, is readable by its owner only,
and replaces no other one without --replace. It has the secrets of the account and of
all API keys. Nodes make backups themselves with serve --backup-dir.

Exit codes: 0 there is a good backup; 1 there is none, and the file is as it was; 2 the
command was called in a wrong way.`,
		Example: `  lockstep backup --data-dir /var/lib/lockstep sync.backup
  lockstep backup --url http://10.0.0.1:8080 --json /backups/sync.backup
  lockstep backup --data-dir /var/lib/lockstep - | gpg --encrypt --recipient ops > sync.backup.gpg
  lockstep backup verify sync.backup`,
		Args: cobra.ExactArgs(1),
		RunE: does(func(cmd *cobra.Command, args []string) error {
			client, err := t.client(cmd.Flags())
			if err != nil {
				return err
			}
			file := args[0]
			out := cmd.OutOrStdout()
			if file == aPipe {
				if isTerminal(out) {
					return usage{errors.New("a backup is nothing to look at: send standard output to a file or a pipe")}
				}
				s, err := fetchBackup(cmd.Context(), client, out, cmd.ErrOrStderr())
				if err != nil {
					return err
				}
				return printSummary(cmd.ErrOrStderr(), file, s, nil, asJSON)
			}
			var s backup.Summary
			err = backup.Create(file, replace, func(w io.Writer) (err error) {
				s, err = fetchBackup(cmd.Context(), client, w, cmd.ErrOrStderr())
				return err
			})
			if errors.Is(err, backup.ErrExists) {
				err = fmt.Errorf("%w: --replace puts the new backup in its place", err)
			}
			if err != nil {
				return err
			}
			return printSummary(out, file, s, nil, asJSON)
		}),
	}
	t.flags(cmd)
	cmd.Flags().BoolVar(&replace, "replace", false, "put the backup in the place of a file that exists")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON: "+summaryFields)
	cmd.AddCommand(newBackupVerify())
	return cmd
}

func newBackupVerify() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "verify FILE",
		Short: "Read a whole backup, and say what is in it",
		Long: `Compare the checksum of a backup, read the whole state in it, and print what it is.
It needs no cluster, and as much memory as a node.

Exit codes: 0 the backup is good; 1 the file cannot be read; 2 the command was called in
a wrong way; 3 it is damaged, no backup, or written by a newer release, as standard
error says.`,
		Example: "  lockstep backup verify sync.backup",
		Args:    cobra.ExactArgs(1),
		RunE: does(func(cmd *cobra.Command, args []string) error {
			b, err := loadBackup(args[0], cmd.ErrOrStderr())
			if err != nil {
				return err
			}
			return printSummary(cmd.OutOrStdout(), args[0], b.Summary, contentsOf(b), asJSON)
		}),
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON: "+summaryFields+", and services, objects, items, api_keys, state_bytes")
	return cmd
}

// loadBackup reads a whole backup. That it cannot be used is exit code 3.
func loadBackup(file string, progress io.Writer) (b backup.Loaded, err error) {
	f, err := os.Open(file)
	if err != nil {
		return b, fmt.Errorf("read backup: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return b, fmt.Errorf("read backup: %w", err)
	}
	shown := newProgress(progress, "reading", info.Size())
	b, err = backup.Load(io.TeeReader(f, shown))
	if ended := shown.Finish(); err == nil && ended != nil {
		return b, ended
	}
	if backup.Unusable(err) {
		err = enrol.StateError{Reason: fmt.Errorf("%s: %w", file, err)}
	}
	return b, err
}

// fetchBackup writes a backup of the cluster to w, and returns what it is once it
// is known to be whole.
func fetchBackup(ctx context.Context, client *admin.Client, w, progress io.Writer) (backup.Summary, error) {
	b, err := client.Backup(ctx)
	if err != nil {
		return backup.Summary{}, err
	}
	shown := newProgress(progress, "backup", b.Size)
	s, err := backup.Check(io.TeeReader(b.Content, io.MultiWriter(w, shown)))
	return s, errors.Join(err, shown.Finish(), b.Content.Close())
}

const summaryFields = "file, cluster_id, index, term, time, taken, node, release, format_level, bytes, sha256"

// summary is what is told of a backup.
type summary struct {
	File      string    `json:"file"`
	ClusterID string    `json:"cluster_id"`
	Index     uint64    `json:"index"`
	Term      uint64    `json:"term"`
	Time      time.Time `json:"time"` // of the last write
	Taken     time.Time `json:"taken"`
	Node      string    `json:"node"`
	Release   string    `json:"release"`
	Level     uint32    `json:"format_level"`
	Bytes     int64     `json:"bytes"`
	SHA256    string    `json:"sha256"`

	*contents // of a backup that was read
}

type contents struct {
	Services   int   `json:"services"`
	Objects    int   `json:"objects"`
	Items      int   `json:"items"`
	APIKeys    int   `json:"api_keys"`
	StateBytes int64 `json:"state_bytes"`
}

func contentsOf(b backup.Loaded) *contents {
	v := b.State.View()
	c := contents{APIKeys: len(v.Keys()), StateBytes: v.Bytes()}
	c.Services, c.Objects, c.Items = v.Count()
	return &c
}

// printSummary tells what a backup is, and what is in it if that is known.
func printSummary(out io.Writer, file string, s backup.Summary, in *contents, asJSON bool) error {
	told := summary{
		File: file, ClusterID: s.ClusterID, Index: s.Index, Term: s.Term, Time: time.UnixMilli(s.Time).UTC(), Taken: s.TakenAt(),
		Node: s.Node, Release: s.Release, Level: uint32(s.Level), Bytes: s.Size, SHA256: hex.EncodeToString(s.Sum[:]), contents: in,
	}
	if asJSON {
		return printJSON(out, told)
	}
	table := newTable(out)
	table.named("backup", fmt.Sprintf("%s, %d bytes, SHA-256 %s", told.File, told.Bytes, told.SHA256))
	table.named("cluster", told.ClusterID)
	table.named("state of", fmt.Sprintf("term %d, log index %d, format level %d", told.Term, told.Index, told.Level))
	table.named("made", fmt.Sprintf("%s by node %s, release %s", told.Taken.Format(time.RFC3339), told.Node, told.Release))
	table.named("last write", told.Time.Format(time.RFC3339))
	if c := told.contents; c != nil {
		table.named("holds", fmt.Sprintf("%d services, %d objects, %d items, %d API keys: %d bytes in memory", c.Services, c.Objects, c.Items, c.APIKeys, c.StateBytes))
	}
	return table.print()
}
