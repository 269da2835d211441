package fsm

// Operations returns one empty operation of each kind, in the order of their
// numbers: for tests that nothing which depends on the kind was forgotten.
func Operations() []Op {
	var all []Op
	for k := range 256 {
		if op := newOp(opKind(k)); op != nil {
			all = append(all, op)
		}
	}
	return all
}

// Internal reports whether an operation is one of the cluster's own, which no
// client asks for.
func Internal(op Op) bool { return op.kind() >= opOwn }
