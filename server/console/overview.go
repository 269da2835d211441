package console

import (
	"net/http"
	"strconv"
	"strings"

	"lockstep/objects"
	"lockstep/server/admin"
)

// overview is how the cluster is.
type overview struct {
	ClusterID string         `json:"cluster_id"`
	Node      string         `json:"node"` // that answers
	Nodes     []overviewNode `json:"nodes"`
	Stored    stored         `json:"stored"`
	Webhooks  webhookCounts  `json:"webhooks"`
	Notes     []string       `json:"notes,omitempty"` // of the node that answers
	Now       int64          `json:"now"`
}

type stored struct {
	Services int   `json:"services"`
	Objects  int   `json:"objects"`
	Items    int   `json:"items"`
	Bytes    int64 `json:"bytes"`
}

type webhookCounts struct {
	Waiting int    `json:"waiting"`
	Dropped uint64 `json:"dropped"`
}

type overviewNode struct {
	admin.NodeStatus
	Samples []Sample `json:"samples"`
}

func (c *Console) overview(_ http.ResponseWriter, r *http.Request, who *user) (any, error) {
	may := who.rights()
	if !may.Cluster {
		return nil, objects.ErrKeyScope
	}
	after, _ := strconv.ParseInt(r.URL.Query().Get("after"), 10, 64) // none: from the beginning
	status, err := c.Node.Status(r.Context())
	if err != nil {
		return nil, err
	}
	view := c.Node.View()
	x := overview{ClusterID: status.ClusterID, Node: c.Node.ID(), Notes: c.Node.Notes(), Now: c.Clock().UnixMilli()}
	x.Stored.Services, x.Stored.Objects, x.Stored.Items = view.Count()
	x.Stored.Bytes = view.Bytes()
	x.Webhooks = webhookCounts{view.WaitingDeliveries(), view.DroppedDeliveries()}
	var there []string
	for _, n := range status.Nodes {
		if n.Role != admin.RoleUnreachable {
			there = append(there, n.ID)
		}
	}
	replies := c.askAll(r.Context(), there, question{Part: partSamples, After: after})
	for _, n := range status.Nodes {
		if !may.Operator {
			// Where nodes are is for operators.
			n.HTTP, n.Raft, n.Server = "", "", ""
		}
		x.Nodes = append(x.Nodes, overviewNode{n, append([]Sample{}, replies[n.ID].Samples...)})
	}
	return x, nil
}

// refusalRow is a bucket that refused.
type refusalRow struct {
	Class    string `json:"class"`
	SID      string `json:"sid,omitempty"`
	Name     string `json:"name,omitempty"`
	Service  string `json:"service,omitempty"`
	Identity string `json:"identity,omitempty"`
	Count    uint64 `json:"count"`
	First    string `json:"first"`
	Last     string `json:"last"`
}

// ownRefusals returns what this node has refused.
func (c *Console) ownRefusals() (rows []refusalRow, total uint64) {
	latest, total := c.Node.Refusals()
	view := c.Node.View()
	for _, x := range latest {
		sid := x.Bucket.SID
		row := refusalRow{
			Class: strings.TrimSuffix(x.Bucket.String(), "-"+sid.String()), SID: sid.String(), Service: sid.String(), Identity: x.Bucket.Identity,
			Count: x.Count, First: stamp(x.First.UnixMilli()), Last: stamp(x.Last.UnixMilli()),
		}
		if o, ok := view.ObjectBySID(sid); ok {
			row.Service, row.Name = o.ServiceSID.String(), o.UniqueName
		}
		rows = append(rows, row)
	}
	return rows, total
}

// refusals tells which rate limits refused lately. Whoever has no business with the
// data is told what kind of limit it was.
func (c *Console) refusals(_ http.ResponseWriter, r *http.Request, who *user) (any, error) {
	may := who.rights()
	if !may.Cluster && !may.Data {
		return nil, objects.ErrKeyScope
	}
	t, err := c.askLeader(r.Context(), question{Part: partRefusals})
	if err != nil {
		return nil, err
	}
	rows := []refusalRow{}
	for _, row := range t.Refusals {
		service, _ := objects.ParseSID(row.Service)
		switch {
		case !may.Data:
			row = refusalRow{Class: row.Class, Count: row.Count, First: row.First, Last: row.Last}
		case !who.mayUse(service):
			continue
		}
		rows = append(rows, row)
	}
	total := t.Total
	if may.Service != "" {
		total = 0
		for _, row := range rows {
			total += row.Count
		}
	}
	return map[string]any{"refusals": rows, "total": total}, nil
}

// backups tells which backups each node has.
func (c *Console) backups(_ http.ResponseWriter, r *http.Request, who *user) (any, error) {
	if !who.rights().Operator {
		return nil, objects.ErrKeyScope
	}
	all, _, err := c.members(r.Context())
	if err != nil {
		return nil, err
	}
	type row struct {
		Node    string `json:"node"`
		Problem string `json:"problem,omitempty"`
		Backups
	}
	replies := c.askAll(r.Context(), all, question{Part: partBackups})
	rows := []row{}
	for _, id := range all {
		x := row{Node: id}
		switch a := replies[id]; {
		case a.err != nil:
			x.Problem = a.err.Error()
		case a.told.Backups != nil:
			x.Backups = *a.told.Backups
		}
		rows = append(rows, x)
	}
	return map[string]any{"nodes": rows}, nil
}
