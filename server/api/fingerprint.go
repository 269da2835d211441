package api

import (
	"crypto/sha256"
	"encoding/binary"
)

// Fingerprint returns the hash that tells requests under one idempotency key apart: of
// the body, and of all else that says what is asked for.
func Fingerprint[T string | []byte](body T, address ...string) [16]byte {
	var b []byte
	for _, part := range address {
		b = binary.AppendUvarint(b, uint64(len(part)))
		b = append(b, part...)
	}
	b = binary.AppendUvarint(b, uint64(len(body)))
	sum := sha256.Sum256(append(b, body...))
	return [16]byte(sum[:16])
}
