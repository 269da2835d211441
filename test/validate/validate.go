// Package validate finds what is wrong with what a cluster told its clients,
// whatever kind of cluster that was: real processes, or nodes in virtual time.
//
//   - History: calls to registers, which are linearizable or not.
//   - Writes: what clients know of the fate of each write, of which each
//     acknowledged one is there once.
//   - Transcript: what one subscriber heard, over all its connections, in order
//     and without a hole.
//   - Digests: stores of equal index, which are equal.
//
// What a validator returns says what was expected and what was found. Its own
// tests plant the faults that it is there for.
package validate
