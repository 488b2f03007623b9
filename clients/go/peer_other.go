//go:build !linux

package keychainauth

import "net"

// peerUID is not asked here: the owner of the folder counts alone.
func peerUID(*net.UnixConn) (uint32, bool) { return 0, false }
