package slots

// queue is a list of places that hold its links themselves: a connection enters
// and leaves one with each request.
type queue[K comparable] struct {
	oldest, newest *Place[K]
	length         int
}

func (q *queue[K]) add(x *Place[K]) {
	x.before, x.after = q.newest, nil
	if q.newest == nil {
		q.oldest = x
	} else {
		q.newest.after = x
	}
	q.newest = x
	q.length++
}

func (q *queue[K]) remove(x *Place[K]) {
	if x.before == nil {
		q.oldest = x.after
	} else {
		x.before.after = x.after
	}
	if x.after == nil {
		q.newest = x.before
	} else {
		x.after.before = x.before
	}
	x.before, x.after = nil, nil
	q.length--
}
