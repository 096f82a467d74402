package sink

import "time"

// SyslogMessage returns the message of a record.
func SyslogMessage(number uint64, record []byte) []byte {
	t := &syslog{host: "host\x00 ü", pid: "7", facility: logAudit}
	return t.message(nil, number, record)
}

// RetryAfter and ParsePosition are what reads the octets of others.
func RetryAfter(value string, now time.Time) (time.Duration, bool) { return retryAfter(value, now) }

func ParsePosition(text []byte) error { _, err := parsePosition(text); return err }
