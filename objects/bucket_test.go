package objects_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"lockstep/objects"
)

func TestBucketNames(t *testing.T) {
	m := objects.NewSID(objects.KindMap, [16]byte{1})
	s := objects.NewSID(objects.KindService, [16]byte{2})
	for want, b := range map[string]objects.Bucket{
		"write-map-" + m.String():           {Class: objects.BucketWrites, SID: m},
		"read-map-" + m.String():            {Class: objects.BucketReads, SID: m, Identity: "alice"},
		"query-map-" + m.String():           {Class: objects.BucketQueries, SID: m},
		"read-permission-" + m.String():     {Class: objects.BucketPermissionReads, SID: m},
		"create-document-" + s.String():     {Class: objects.NewObjects(objects.KindDocument), SID: s},
		"missing-" + s.String():             {Class: objects.BucketMisses, SID: s},
		"none-" + objects.SID{}.String():    {},
		objects.Bucket{Class: 255}.String(): {Class: 255},
	} {
		require.Equal(t, want, b.String())
	}
	names := map[string]objects.BucketClass{}
	for c := objects.BucketNone; c < objects.BucketClasses; c++ {
		name := objects.Bucket{Class: c, SID: m}.String()
		require.NotContains(t, names, name)
		names[name] = c
	}
}

func TestEachKindOfObjectHasItsCreations(t *testing.T) {
	seen := map[objects.BucketClass]bool{objects.BucketNone: true}
	for kind := objects.KindDocument; kind <= objects.KindStream; kind++ {
		class := objects.NewObjects(kind)
		require.False(t, seen[class], "%v", kind)
		seen[class] = true
	}
	require.Equal(t, objects.BucketNone, objects.NewObjects(objects.KindKey))
}
