// Package deploy holds the files of docs/deploy against the schemas of those who read
// them: Kubernetes' own types, decoded strictly, and compose's loader. They are not run
// here; what their procedure does with nodes is run in test/cli.
package deploy

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/cli"
	"github.com/stretchr/testify/require"
	apps "k8s.io/api/apps/v1"
	core "k8s.io/api/core/v1"
	networking "k8s.io/api/networking/v1"
	policy "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/util/yaml"
	strict "sigs.k8s.io/yaml"
)

var files = filepath.Join("..", "..", "..", "docs", "deploy")

// kinds are those that the files may have.
var kinds = map[string]func() any{
	"v1 ConfigMap":                       func() any { return new(core.ConfigMap) },
	"v1 Service":                         func() any { return new(core.Service) },
	"apps/v1 StatefulSet":                func() any { return new(apps.StatefulSet) },
	"policy/v1 PodDisruptionBudget":      func() any { return new(policy.PodDisruptionBudget) },
	"networking.k8s.io/v1 NetworkPolicy": func() any { return new(networking.NetworkPolicy) },
}

// read decodes every object of a file, and fails for a field that its kind has not.
func read(t *testing.T, name string) (found []any) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(files, "kubernetes", name))
	require.NoError(t, err)
	for documents := yaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(text))); ; {
		document, err := documents.Read()
		if errors.Is(err, io.EOF) {
			return found
		}
		require.NoError(t, err)
		var head struct{ APIVersion, Kind string }
		require.NoError(t, strict.Unmarshal(document, &head))
		kind, known := kinds[head.APIVersion+" "+head.Kind]
		require.True(t, known, "%s %s", head.APIVersion, head.Kind)
		object := kind()
		require.NoError(t, strict.UnmarshalStrict(document, object), "%s", document)
		found = append(found, object)
	}
}

func only[T any](t *testing.T, objects []any, is func(*T) bool) *T {
	t.Helper()
	var found []*T
	for _, o := range objects {
		if x, ok := o.(*T); ok && is(x) {
			found = append(found, x)
		}
	}
	require.Len(t, found, 1)
	return found[0]
}

// A start cannot deadlock: the nodes find each other before they are ready, all start at
// once, and nothing but their being alive has one restarted.
func TestNodesOnKubernetes(t *testing.T) {
	all := read(t, "nodes.yaml")
	set := only(t, all, func(*apps.StatefulSet) bool { return true })
	require.Nil(t, set.Spec.Replicas, "another kubectl apply would scale the cluster")
	require.Equal(t, apps.ParallelPodManagement, set.Spec.PodManagementPolicy)
	require.Equal(t, apps.DeletePersistentVolumeClaimRetentionPolicyType, set.Spec.PersistentVolumeClaimRetentionPolicy.WhenScaled)
	labels := set.Spec.Template.Labels
	require.Equal(t, set.Spec.Selector.MatchLabels, labels)

	nodes := only(t, all, func(s *core.Service) bool { return s.Name == set.Spec.ServiceName })
	require.True(t, nodes.Spec.PublishNotReadyAddresses)
	require.Equal(t, core.ClusterIPNone, nodes.Spec.ClusterIP)
	require.Equal(t, labels, nodes.Spec.Selector)
	clients := only(t, all, func(s *core.Service) bool { return s.Name == "lockstep" })
	require.False(t, clients.Spec.PublishNotReadyAddresses)
	require.Equal(t, labels, clients.Spec.Selector)
	require.Equal(t, labels, only(t, all, func(*policy.PodDisruptionBudget) bool { return true }).Spec.Selector.MatchLabels)

	pod := set.Spec.Template.Spec
	require.False(t, *pod.EnableServiceLinks, "the variables of the service lockstep would be taken for settings")
	require.True(t, *pod.SecurityContext.RunAsNonRoot)
	require.Equal(t, core.FSGroupChangeOnRootMismatch, *pod.SecurityContext.FSGroupChangePolicy)
	require.Len(t, pod.Containers, 1)
	c := pod.Containers[0]
	require.Equal(t, "/readyz", c.ReadinessProbe.HTTPGet.Path)
	require.Equal(t, "/healthz", c.LivenessProbe.HTTPGet.Path)
	require.Nil(t, c.StartupProbe)
	ports := map[string]bool{}
	for _, p := range c.Ports {
		ports[p.Name] = true
	}
	require.True(t, ports[c.ReadinessProbe.HTTPGet.Port.StrVal] && ports[c.LivenessProbe.HTTPGet.Port.StrVal])
	volumes := map[string]bool{}
	for _, v := range pod.Volumes {
		volumes[v.Name] = true
	}
	for _, v := range set.Spec.VolumeClaimTemplates {
		volumes[v.Name] = true
	}
	data, directory := "", ""
	for _, m := range c.VolumeMounts {
		require.True(t, volumes[m.Name], m.Name)
		if m.Name == "data" {
			data = m.MountPath
		}
	}
	for _, e := range c.Env {
		if e.Name == "LOCKSTEP_DATA_DIR" {
			directory = e.Value
		}
	}
	require.NotEmpty(t, data)
	require.True(t, strings.HasPrefix(directory, data+"/"), "below the volume's root, whose mode is not the node's to set")
	for _, name := range []string{"found.yaml", "join.yaml"} {
		settings := only(t, read(t, name), func(*core.ConfigMap) bool { return true })
		require.Equal(t, pod.Volumes[0].ConfigMap.Name, settings.Name)
		require.Contains(t, settings.Data, "lockstep.yaml")
	}
}

func TestThreeNodesByCompose(t *testing.T) {
	options, err := cli.NewProjectOptions([]string{filepath.Join(files, "compose.yaml")},
		cli.WithWorkingDirectory(filepath.Join(files, "..", "..")),
		cli.WithEnv([]string{"LOCKSTEP_ACCOUNT_SID=AC1", "LOCKSTEP_AUTH_TOKEN=t"}))
	require.NoError(t, err)
	project, err := options.LoadProject(t.Context())
	require.NoError(t, err)
	require.Len(t, project.Services, 3)
	made := 0
	for name, s := range project.Services {
		require.Empty(t, s.DependsOn, "%s would wait for one that waits for it", name)
		require.Equal(t, name, *s.Environment["LOCKSTEP_NODE_ID"])
		require.FileExists(t, filepath.Join(project.WorkingDir, s.Build.Dockerfile))
		if s.Environment["LOCKSTEP_BOOTSTRAP"] != nil {
			made++
		} else {
			require.NotNil(t, s.Environment["LOCKSTEP_JOIN"])
		}
		for other := range project.Services {
			require.Equal(t, name != other, strings.Contains(*s.Environment["LOCKSTEP_SEED"], other+":7001"))
		}
	}
	require.Equal(t, 1, made, "one node makes the cluster")
}
