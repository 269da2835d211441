package hub

// Form is one of the forms in which an event is encoded. The package's user
// defines what each of them means.
type Form uint8

// Forms is the number of forms. Every Form is less.
const Forms = 2

// Frame is an event as a client reads it.
type Frame struct {
	Bytes []byte // complete
	Part  *Part  // of it; nil: it is written as it is
}

// Part is what is in a frame of one event alone. Parts of one kind that wait for the same
// subscription are written in one frame: Config.Join makes it. So the more waits, the
// less there is to write, and to acknowledge.
type Part struct {
	Kind  string
	Event []byte
}

// Frames holds one event in all forms. Each form is encoded once, when the first
// subscriber asks for it, and shared by all subscribers that read it. Frames is
// not safe for concurrent use.
type Frames struct {
	Encode func(Form) Frame
	made   [Forms]Frame
}

// In returns the frame in one form.
func (f *Frames) In(form Form) Frame {
	if f.made[form].Bytes == nil {
		f.made[form] = f.Encode(form)
	}
	return f.made[form]
}
