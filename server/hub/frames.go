package hub

// Form is one of the forms in which an event is encoded. The package's user
// defines what each of them means.
type Form uint8

// Forms is the number of forms. Every Form is less.
const Forms = 2

// Frames holds one event in all forms. Each form is encoded once, when the first
// subscriber asks for it, and shared by all subscribers that read it. Frames is
// not safe for concurrent use.
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
