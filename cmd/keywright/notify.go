package main

import (
	"log/slog"
	"net"
	"os"
)

// notifyVariable is where systemd says to which socket a service with Type=notify tells its state (sd_notify(3)).
const notifyVariable = "NOTIFY_SOCKET"

// notify tells systemd a state, "READY=1" or "STOPPING=1". Without systemd it does nothing. It is no reason to stop if systemd cannot
// be told: that gives up on the service by itself.
func notify(state string) {
	at := os.Getenv(notifyVariable)
	if at == "" {
		return
	}
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: at, Net: "unixgram"}) // a leading @ is an abstract socket
	if err == nil {
		_, err = conn.Write([]byte(state))
		_ = conn.Close() // a datagram is sent or not
	}
	if err != nil {
		slog.Warn("systemd was not told of the server's state", "state", state, "err", err)
	}
}
