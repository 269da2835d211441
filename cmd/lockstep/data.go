package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"
)

const dataHelp = `DATA is JSON; - reads it from standard input, @FILE from a file. A text is in double
quotes, which the shell wants in single ones: '"hello"'.`

// maxData is more than a node takes.
const maxData = 256 << 10

// readData returns the JSON that an argument gives or names.
func readData(in io.Reader, arg string) (string, error) {
	text := arg
	file, isFile := strings.CutPrefix(arg, "@")
	switch {
	case arg == aPipe:
		b, err := io.ReadAll(io.LimitReader(in, maxData))
		if err != nil {
			return "", fmt.Errorf("read data from standard input: %w", err)
		}
		text = string(b)
	case isFile:
		f, err := os.Open(file)
		if err != nil {
			return "", fmt.Errorf("read data: %w", err)
		}
		defer f.Close()
		b, err := io.ReadAll(io.LimitReader(f, maxData))
		if err != nil {
			return "", fmt.Errorf("read data: %w", err)
		}
		text = string(b)
	}
	if !json.Valid([]byte(text)) {
		hint := ""
		if arg != aPipe && !isFile {
			hint = `; a text is in double quotes, as in '"hello"', and a file is named @FILE`
		}
		return "", usage{errors.New("the data is not JSON" + hint)}
	}
	return text, nil
}

const ttlHelp = "how long it lives: seconds, or 90s, 10m, 24h; 0: for ever"

// seconds returns a TTL as the API has it.
func seconds(ttl string) (string, error) {
	if _, err := strconv.Atoi(ttl); err == nil {
		return ttl, nil // whether it is in range the node says
	}
	d, err := time.ParseDuration(ttl)
	if err != nil || d%time.Second != 0 {
		return "", usage{fmt.Errorf("--ttl %s is neither a number of seconds nor a duration such as 90s, 10m or 24h", ttl)}
	}
	return strconv.FormatInt(int64(d/time.Second), 10), nil
}
