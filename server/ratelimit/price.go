package ratelimit

// WritePrice gives the tokens that a write of so many bytes of data costs: 1
// up to 1 KiB, 10 from 10 KiB on, in proportion to the size in between. At 20
// tokens a second that makes 20 small writes, or 2 large ones ("Sync Limits").
func WritePrice(bytes int) float64 {
	return min(max(float64(bytes)/1024, 1), 10)
}
