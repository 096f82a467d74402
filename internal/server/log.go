package server

import (
	"fmt"
	"io"
	"log/slog"
)

// Log says how the server's log is written, which goes to the standard error.
type Log struct {
	// Format is text or json. Empty means text.
	Format string `yaml:"format"`
	// Level is the least that is written: debug, which has a line for each request that was refused, info, warn or error.
	// Empty means info.
	Level string `yaml:"level"`
}

// check looks for words that mean nothing.
func (l Log) check() error {
	if _, err := l.level(); err != nil {
		return err
	}
	if l.Format != "" && l.Format != "text" && l.Format != "json" {
		return fmt.Errorf("log: format: %q is neither text nor json", l.Format)
	}
	return nil
}

func (l Log) level() (slog.Level, error) {
	switch l.Level {
	case "debug":
		return slog.LevelDebug, nil
	case "", "info":
		return slog.LevelInfo, nil
	case "warn":
		return slog.LevelWarn, nil
	case "error":
		return slog.LevelError, nil
	}
	return 0, fmt.Errorf("log: level: %q is none of debug, info, warn and error", l.Level)
}

// Logger returns what writes the log to w. What check refuses is as if it were not there.
func (l Log) Logger(w io.Writer) *slog.Logger {
	level, err := l.level()
	if err != nil {
		level = slog.LevelInfo
	}
	o := &slog.HandlerOptions{Level: level}
	if l.Format == "json" {
		return slog.New(slog.NewJSONHandler(w, o))
	}
	return slog.New(slog.NewTextHandler(w, o))
}
