package keyring

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"errors"
	"fmt"

	"lockstep/fsm"
	"lockstep/fsm/commandid"
)

// errForeign: something is sealed with a key that this node has not got.
var errForeign = errors.New("cluster: it is sealed with a key that this node has not got")

// Seal seals something for the vault, under the name that it is to have there, and
// names the key that it is sealed with.
func (k *Keyring) Seal(name string, plain []byte) (fsm.KeyID, []byte, error) {
	key := k.All()[0]
	if id := k.Store.View().SealingKey(); id != (fsm.KeyID{}) {
		var ok bool
		if key, ok = k.find(id); !ok {
			return id, nil, errForeign
		}
	}
	data, err := seal(key, name, plain)
	return fsm.KeyIDOf(key), data, err
}

// Unseal returns what was sealed.
func (k *Keyring) Unseal(s *fsm.Sealed) ([]byte, error) {
	key, ok := k.find(s.Key)
	if !ok {
		return nil, errForeign
	}
	return unseal(key, s.Name, s.Data)
}

func seal(key [32]byte, name string, plain []byte) ([]byte, error) {
	aead, err := sealer(key)
	if err != nil {
		return nil, err
	}
	return aead.Seal(nil, nil, plain, []byte(name)), nil
}

func unseal(key [32]byte, name string, data []byte) ([]byte, error) {
	aead, err := sealer(key)
	if err != nil {
		return nil, err
	}
	plain, err := aead.Open(nil, nil, data, []byte(name))
	if err != nil {
		return nil, fmt.Errorf("cluster: open %s: %w", name, err)
	}
	return plain, nil
}

// sealer makes its own nonces, and puts each before what it seals.
func sealer(key [32]byte) (cipher.AEAD, error) {
	derived, err := hkdf.Key(sha256.New, key[:], nil, "lockstep vault", 32)
	if err != nil {
		return nil, fmt.Errorf("cluster: derive a key: %w", err)
	}
	block, err := aes.NewCipher(derived)
	if err != nil {
		return nil, fmt.Errorf("cluster: derive a key: %w", err)
	}
	return cipher.NewGCMWithRandomNonce(block)
}

// sealAnew has all that the vault has sealed with the key that a change has led to, and
// reports whether that is so. What nobody can open any more is removed.
func (k *Keyring) sealAnew(ctx context.Context, to fsm.KeyID) (done bool, err error) {
	for {
		old := k.Store.View().SealedOtherwise(to)
		if old == nil {
			return true, nil
		}
		var op fsm.Op
		if plain, err := k.Unseal(old); err == nil {
			id, data, err := k.Seal(old.Name, plain)
			if err != nil {
				return false, err
			}
			op = &fsm.StoreSealed{Name: old.Name, Key: id, Data: data, Instead: old.Index}
		} else {
			k.Logger.Warn("something in the vault cannot be opened, and is removed", "name", old.Name, "error", err)
			op = &fsm.RemoveSealed{Name: old.Name, Instead: old.Index}
		}
		result, err := k.Propose(ctx, &fsm.Command{ID: commandid.New(), Op: op})
		if err != nil {
			return false, err
		}
		if _, err := k.Store.Wait(ctx, result.Index); err != nil {
			return false, err
		}
		if result.Err != nil {
			return false, nil // it was changed meanwhile: again at the next look
		}
	}
}
