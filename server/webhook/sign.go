package webhook

import (
	"crypto/hmac"
	"crypto/sha1" // the algorithm of the API's signatures
	"encoding/base64"
	"slices"
	"strings"
)

// sign returns the X-Twilio-Signature of a request: the URL as it is configured,
// followed by every parameter's name and value in the order of the names,
// under HMAC-SHA1 with the account's auth token (Twilio's "Secure webhooks").
func sign(authToken, url string, params []param) string {
	sorted := slices.SortedFunc(slices.Values(params), func(a, b param) int { return strings.Compare(a.name, b.name) })
	mac := hmac.New(sha1.New, []byte(authToken))
	mac.Write([]byte(withoutFragment(url)))
	for _, p := range sorted {
		mac.Write([]byte(p.name))
		mac.Write([]byte(p.value))
	}
	return base64.StdEncoding.EncodeToString(mac.Sum(nil))
}

func withoutFragment(url string) string {
	before, _, _ := strings.Cut(url, "#")
	return before
}
