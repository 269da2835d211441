// Package explain says what each error of the API means to whoever meets it, and
// what to do about it.
package explain

import "slices"

// Entry is one error of the catalogue.
type Entry struct {
	Code    int    `json:"code"`
	Status  int    `json:"status"`
	Message string `json:"message"`
	Do      string `json:"what_to_do"`
}

// Code returns what there is of a code: more than one entry where it has several
// statuses or causes, none where there is no such error.
func Code(code int) []Entry {
	return slices.Collect(func(yield func(Entry) bool) {
		for _, e := range entries {
			if e.Code == code && !yield(e) {
				return
			}
		}
	})
}

// All returns the whole catalogue, by code.
func All() []Entry { return slices.Clone(entries) }

// Advice returns what to do about an error that a node has answered with; "" if
// the catalogue does not have it. The message decides where one code and status
// stand for several things.
func Advice(code, status int, message string) string {
	advice := ""
	for _, e := range entries {
		switch {
		case e.Code != code || e.Status != status:
		case e.Message == message:
			return e.Do
		case advice == "":
			advice = e.Do
		}
	}
	return advice
}

var entries = inOrder()

// inOrder lists the catalogue by code and status, with those of one code and
// status as they stand below.
func inOrder() []Entry {
	list := make([]Entry, 0, len(advice))
	for _, a := range advice {
		list = append(list, Entry{Code: a.of.Code, Status: a.of.Status, Message: a.of.Message, Do: a.do})
	}
	slices.SortStableFunc(list, func(a, b Entry) int {
		if a.Code != b.Code {
			return a.Code - b.Code
		}
		return a.Status - b.Status
	})
	return list
}
