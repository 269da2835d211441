//go:build nextlevel

package fsm

// Newest is one level more than the released ones have.
const Newest = Level1 + 1

var next = []operation{
	{250, of[Mark], Newest, byClient, Free, once, needsRoom},
}

// MarkText is what Mark leaves behind.
const MarkText = "written at the next level"

// Mark is an operation that no release knows: it gives a service a friendly name,
// by which tests see that it was applied.
type Mark struct{}

func (*Mark) apply(tx *tx) Result {
	name := MarkText
	return (&UpdateService{FriendlyName: &name}).apply(tx)
}
