package dev

import (
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"text/template"
)

// welcomeText is what a person sees once all nodes serve. Both examples work as
// they are, pasted into a shell and into node.
var welcomeText = template.Must(template.New("welcome").Parse(`
Lockstep: {{if eq .Count 3}}three nodes{{else if eq .Count 1}}one node{{else}}{{.Count}} nodes{{end}} in {{.Dir}}
{{range .Nodes}}
  {{.Name}}    {{.URL}}{{end}}

  account  {{.Env.AccountSID}}
  token    {{.Env.AuthToken}}
  API key  {{.Env.APIKey}}
  secret   {{.Env.APISecret}}

All of this is in {{.EnvFile}}. A first document, with curl:

  curl -u {{.Env.AccountSID}}:{{.Env.AuthToken}} {{.First}}/v1/Services/default/Documents --data-urlencode 'Data={"hello":"world"}'

One that all clients share, with the official JavaScript client
(npm install twilio-sync twilio ws, then node):

{{.JavaScript}}
ready: every node has acknowledged a write. Ctrl-C stops {{if eq .Count 3}}all three{{else if eq .Count 1}}it{{else}}all{{end}}.
`))

// snippet is a first application. It runs in node, pasted or as a file.
const snippet = `globalThis.WebSocket = require('ws');
const { SyncClient } = require('twilio-sync');
const { AccessToken } = require('twilio').jwt;
const token = new AccessToken('%s', '%s', '%s', { identity: 'alice' });
token.addGrant(new AccessToken.SyncGrant({ serviceSid: 'default' }));
const client = new SyncClient(token.toJwt(), { Twilsock: { uri: '%s' } });
client.document('hello').then(async (doc) => {
  doc.on('updated', (event) => console.log(event.data));
  await doc.update({ visits: (doc.data.visits ?? 0) + 1 });
});
`

func (e Env) snippet() string {
	return fmt.Sprintf(snippet, e.AccountSID, e.APIKey, e.APISecret, "ws"+strings.TrimPrefix(e.URLs[0], "http")+"/v3/wsconnect")
}

func (c *cluster) welcome(out io.Writer) error {
	type line struct{ Name, URL string }
	page := struct {
		Dir, EnvFile, First, JavaScript string
		Nodes                           []line
		Count                           int
		Env                             Env
	}{Dir: c.dir, EnvFile: filepath.Join(c.dir, EnvFile), First: c.env.URLs[0], JavaScript: c.env.snippet(), Env: c.env, Count: len(c.nodes)}
	for _, n := range c.nodes {
		page.Nodes = append(page.Nodes, line{n.name, n.url})
	}
	if err := welcomeText.Execute(out, page); err != nil {
		return fmt.Errorf("print how to use the cluster: %w", err)
	}
	return nil
}
