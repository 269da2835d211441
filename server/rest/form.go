package rest

import (
	"bytes"
	"io"
	"mime"
	"mime/multipart"
	"net/url"
	"strings"

	"lockstep/objects"
)

// maxParts bounds the parts of a multipart form, far above the parameters that
// any operation has.
const maxParts = 128

var errMultipart = objects.ErrParameter.With("The body is not a complete multipart form of at most %d parts", maxParts)

// parseForm returns the parameters of a body, percent-encoded.
func parseForm(contentType string, body []byte) (string, error) {
	if len(body) == 0 {
		return "", nil
	}
	mediaType, _, _ := strings.Cut(contentType, ";")
	switch strings.ToLower(strings.TrimSpace(mediaType)) {
	case "application/x-www-form-urlencoded":
		return string(body), nil
	case "multipart/form-data":
		return parseMultipart(contentType, body)
	}
	return "", objects.ErrContentType
}

// parseMultipart encodes a multipart form as one that is percent-encoded: from
// here on, the fingerprint included, the two are the same. It works in
// memory, which the limit of a body bounds. Files are not parameters.
func parseMultipart(contentType string, body []byte) (string, error) {
	_, options, err := mime.ParseMediaType(contentType)
	boundary := options["boundary"]
	// The reader takes the end of a body inside a part's head for that of the form.
	if err != nil || boundary == "" || !bytes.Contains(body, []byte("--"+boundary+"--")) {
		return "", errMultipart
	}
	var form strings.Builder
	parts := multipart.NewReader(bytes.NewReader(body), boundary)
	for n := 0; ; n++ {
		part, err := parts.NextPart()
		if err == io.EOF { // by itself; wrapped it is the end of a body that was cut off
			return form.String(), nil
		}
		if err != nil || n == maxParts {
			return "", errMultipart
		}
		value, err := io.ReadAll(part)
		if err != nil {
			return "", errMultipart
		}
		if part.FormName() == "" || part.FileName() != "" {
			continue
		}
		if form.Len() > 0 {
			form.WriteByte('&')
		}
		form.WriteString(url.QueryEscape(part.FormName()) + "=" + url.QueryEscape(string(value)))
	}
}
