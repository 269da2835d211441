package objects

import (
	"net/url"
	"strings"
	"unicode/utf8"
)

// ValidateName checks a unique name.
func ValidateName(name string) error {
	if !validText(name, MaxName) || LooksLikeSID(name) {
		return ErrName
	}
	return nil
}

// ValidateKey checks the key of a map item.
func ValidateKey(key string) error {
	if !validText(key, MaxName) {
		return ErrMapItemKey
	}
	return nil
}

// ValidateIdentity checks the identity of a permission.
func ValidateIdentity(identity string) error {
	if !validText(identity, MaxIdentity) {
		return ErrIdentity
	}
	return nil
}

// ValidateFriendlyName checks the friendly name of a service.
func ValidateFriendlyName(name string) error {
	if !validText(name, MaxFriendly) {
		return ErrFriendlyName
	}
	return nil
}

// ValidateWebhookURL checks the webhook URL of a service. The empty text,
// which clears it, is valid. Characters that no URL has on the wire (spaces,
// controls, anything beyond ASCII) are refused rather than encoded: what is
// signed is the configured text, and a receiver verifies the URL that it was
// asked for.
func ValidateWebhookURL(text string) error {
	if text == "" {
		return nil
	}
	if len(text) > MaxWebhookURL || strings.ContainsFunc(text, func(r rune) bool { return r <= ' ' || r >= 0x7f }) {
		return ErrWebhookURL
	}
	u, err := url.Parse(text)
	if err != nil || u.Hostname() == "" || (u.Scheme != "http" && u.Scheme != "https") {
		return ErrWebhookURL
	}
	return nil
}

// ValidateTTL checks a time to live in seconds.
func ValidateTTL(seconds int64) error {
	if seconds < 0 || seconds > MaxTTLSeconds {
		return ErrTTL
	}
	return nil
}

// ValidateGrace checks after how many seconds a lease, or a session that is gone, lets
// go of the items that it holds.
func ValidateGrace(seconds int64) error {
	if seconds < MinGraceSeconds || seconds > MaxGraceSeconds {
		return ErrGrace
	}
	return nil
}

func validText(s string, maxRunes int) bool {
	return s != "" && len(s) <= utf8.UTFMax*maxRunes &&
		utf8.ValidString(s) && utf8.RuneCountInString(s) <= maxRunes &&
		!strings.ContainsRune(s, 0)
}

// CompareKeys orders map keys by UTF-16 code unit, as the official client
// orders its cache. For valid UTF-8 that is byte order, except that the
// characters beyond U+FFFF (surrogates in UTF-16) come before U+E000–U+FFFF.
func CompareKeys(a, b string) int {
	n := min(len(a), len(b))
	i := 0
	for i < n && a[i] == b[i] {
		i++
	}
	if i == n {
		return len(a) - len(b)
	}
	return int(utf16Rank(a[i])) - int(utf16Rank(b[i]))
}

// utf16Rank maps a UTF-8 byte so that lead bytes compare like UTF-16. Bytes
// below the lead bytes of U+E000 and above keep their place, 0xF0–0xF4 (beyond
// U+FFFF) move in front of 0xEE and 0xEF (U+E000–U+FFFF).
func utf16Rank(c byte) byte {
	switch {
	case c >= 0xF0:
		return c - 2
	case c >= 0xEE:
		return c + 8
	}
	return c
}
