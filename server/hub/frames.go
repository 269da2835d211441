package hub

// Form is one of the ways in which the same thing is told. What each of them
// means is the user's to say.
type Form uint8

// Forms is how many there are: a Form is less.
const Forms = 2

// Frames is one thing to tell, in all forms. Each is made once, when the first
// subscriber of that form asks for it, and shared by all of them. It is not
// safe for concurrent use.
type Frames struct {
	Encode func(Form) []byte
	made   [Forms][]byte
}

// In returns the frame in one form.
func (f *Frames) In(form Form) []byte {
	if f.made[form] == nil {
		f.made[form] = f.Encode(form)
	}
	return f.made[form]
}
