package rest_test

import (
	"encoding/json"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"
)

func (c *client) transact(operations string, change ...func(*http.Request)) reply {
	return c.send(http.MethodPost, home+"/Transactions", encode("Operations", operations), change...)
}

func TestTransactionAnswersEachOperationAsByItself(t *testing.T) {
	c := world(t)
	a := c.transact(`[
		{"method":"POST","path":"/Documents","params":{"UniqueName":"order","Data":{"total":12}}},
		{"method":"POST","path":"/Maps/it/Items/k","params":{"Data":{"a":2},"ItemTtl":60},"if_match":"1"},
		{"method":"POST","path":"/Lists/it/Items","params":{"Data":"{\"text\":1}"}},
		{"method":"DELETE","path":"/Lists/it/Items/0"},
		{"method":"POST","path":"/Streams/it/Messages","params":{"Data":{"sold":true}}}
	]`)
	require.Equal(t, http.StatusOK, a.Code, a.Body)
	var body struct {
		Results []struct {
			Status int
			Body   json.RawMessage
		}
	}
	require.NoError(t, json.Unmarshal(a.Body.Bytes(), &body))
	var statuses []int
	for _, r := range body.Results {
		statuses = append(statuses, r.Status)
	}
	require.Equal(t, []int{201, 200, 201, 204, 201}, statuses)
	require.JSONEq(t, c.get(home+"/Documents/order").Body.String(), string(body.Results[0].Body))
	require.JSONEq(t, c.get(home+"/Maps/it/Items/k").Body.String(), string(body.Results[1].Body))
	require.Nil(t, body.Results[3].Body)
}

// What is refused names the operation, and nothing is written.
func TestRefusedTransactionWritesNothing(t *testing.T) {
	for _, x := range []struct {
		name, operation string
		status          int
		code            float64
		message         string
	}{
		{"the wrong revision", `{"method":"POST","path":"/Maps/it/Items/k","params":{"Data":{}},"if_match":"7"}`, 412, 54205, "Operation 2: "},
		{"nothing there", `{"method":"DELETE","path":"/Maps/it/Items/none"}`, 404, 20404, "Operation 2: The requested resource /Maps/it/Items/none was not found"},
		{"a bad parameter", `{"method":"POST","path":"/Maps/it/Items/k","params":{"Data":"{"}}`, 400, 0, "Operation 2: "},
		{"no write", `{"method":"GET","path":"/Maps/it"}`, 405, 0, "Operation 2: "},
		{"permissions", `{"method":"DELETE","path":"/Maps/it/Permissions/ann"}`, 400, 20001, "Operation 2: "},
		{"another service", `{"method":"POST","path":"/../x/Documents"}`, 404, 20404, "Operation 2: "},
		{"not below the service", `{"method":"POST","path":"Documents"}`, 400, 20001, "Operation 2: "},
		{"an unknown member", `{"method":"POST","path":"/Documents","data":{}}`, 400, 20001, "Operations must be"},
	} {
		t.Run(x.name, func(t *testing.T) {
			c := world(t)
			a := c.transact(`[{"method":"POST","path":"/Documents","params":{"UniqueName":"left"}},` + x.operation + `]`)
			require.Equal(t, x.status, a.Code, a.Body)
			if x.code != 0 {
				require.Equal(t, x.code, a.json["code"])
			}
			require.Contains(t, a.json["message"], x.message)
			require.Equal(t, http.StatusNotFound, c.send(http.MethodGet, home+"/Documents/left", "").Code)
		})
	}
}

func TestTransactionUnderKeyHappensOnce(t *testing.T) {
	c := world(t)
	keyed := func(r *http.Request) { r.Header.Set("Idempotency-Key", "sale-1") }
	const push = `[{"method":"POST","path":"/Lists/it/Items","params":{"Data":{"n":1}}},{"method":"POST","path":"/Maps/it/Items/k","params":{"Data":{"n":1}}}]`
	first, again := c.transact(push, keyed), c.transact(push, keyed)
	require.Equal(t, http.StatusOK, first.Code, first.Body)
	require.Equal(t, first.Body.String(), again.Body.String())
	require.Equal(t, http.StatusNotFound, c.send(http.MethodGet, home+"/Lists/it/Items/2", "").Code)
}

func TestTransactionsAreWellFormed(t *testing.T) {
	c := world(t)
	for _, operations := range []string{"", "[]", "{}", "[1]", `[{}] x`} {
		require.Equal(t, http.StatusBadRequest, c.transact(operations).Code, operations)
	}
	require.Equal(t, http.StatusMethodNotAllowed, c.send(http.MethodGet, home+"/Transactions", "").Code)
}
