package fsm

// recountState has every store make the sum of its records anew, at one log index.
// It is for a fault of the store itself that changed records without their sum, on
// all nodes alike: from then on the sum is that of the records again. A node whose
// records are others than its peers' has another digest from then on.
type recountState struct{}

// RecountState returns the command that has every store make its sum anew.
func RecountState(id CommandID) *Command { return &Command{ID: id, Op: &recountState{}} }

// Recounts is what RecountState has found in this store, since that was opened or
// restored. It is no part of the state.
type Recounts struct {
	Last  uint64 // log index of the last one
	Wrong int    // how many found the sum wrong
	Drift uint64 // by how much the last one of those, see View.Drift
}

// Recounts returns what RecountState has found here.
func (v *View) Recounts() Recounts { return v.recounts }

func (*recountState) apply(tx *tx) Result {
	v := tx.view
	v.meta.Sum = v.sum()
	v.recounts.Last = v.Index()
	if drift := v.Drift(); drift != 0 {
		v.corrections += hash64(drift)
		v.recounts.Wrong++
		v.recounts.Drift = drift
	}
	return Result{}
}
