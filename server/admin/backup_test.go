package admin_test

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"lockstep/objects"
	"lockstep/server/admin"
)

// closing tells that it was closed.
type closing struct {
	io.Reader
	closed chan struct{}
}

func (c closing) Close() error {
	close(c.closed)
	return nil
}

func TestBackupIsSentAsItIs(t *testing.T) {
	content := bytes.Repeat([]byte("backup"), 100_000)
	closed := make(chan struct{})
	client, url := serve(t, fake{backup: func() (admin.Backup, error) {
		return admin.Backup{Size: int64(len(content)), Content: closing{bytes.NewReader(content), closed}}, nil
	}})
	client.URLs = append([]string{"http://127.0.0.1:1"}, client.URLs...) // nobody is there
	b, err := client.Backup(t.Context())
	require.NoError(t, err)
	require.EqualValues(t, len(content), b.Size)
	got, err := io.ReadAll(b.Content)
	require.NoError(t, err)
	require.True(t, bytes.Equal(content, got))
	require.NoError(t, b.Content.Close())
	<-closed

	client.AuthToken = "wrong"
	_, err = client.Backup(t.Context())
	require.ErrorIs(t, err, objects.ErrUnauthorized)
	res, _ := ask(t, http.MethodGet, url+"/cluster/backup", "")
	require.NotEqual(t, http.StatusOK, res.StatusCode, "making one is no reading")
}

func TestBackupThatIsNotMadeIsAnError(t *testing.T) {
	client, _ := serve(t, fake{backup: func() (admin.Backup, error) {
		return admin.Backup{}, objects.ErrDiskFull.With("no room")
	}})
	_, err := client.Backup(t.Context())
	require.ErrorIs(t, err, objects.ErrDiskFull)
	require.ErrorContains(t, err, "no room")
}

// What a node could not read to its end is not taken for all of it.
func TestBackupThatBreaksOffIsAnError(t *testing.T) {
	client, _ := serve(t, fake{backup: func() (admin.Backup, error) {
		broken := io.MultiReader(bytes.NewReader(make([]byte, 1000)), failing{})
		return admin.Backup{Size: 2000, Content: io.NopCloser(broken)}, nil
	}})
	b, err := client.Backup(t.Context())
	require.NoError(t, err)
	_, err = io.ReadAll(b.Content)
	require.Error(t, err)
	require.NoError(t, b.Content.Close())
}

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, errors.New("bad sector") }
