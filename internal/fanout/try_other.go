//go:build !unix

package fanout

import "net"

// socketOf knows no way to write to a socket without waiting.
func socketOf(net.Conn) tryWriter { return nil }
