package keychainauth

import (
	"net"
	"syscall"
)

// peerUID is the user who listens, as the kernel noted it at listen(2) (SO_PEERCRED, unix(7)).
func peerUID(connection *net.UnixConn) (uint32, bool) {
	raw, err := connection.SyscallConn()
	if err != nil {
		return 0, false
	}
	var credentials *syscall.Ucred
	var problem error
	err = raw.Control(func(fd uintptr) {
		credentials, problem = syscall.GetsockoptUcred(int(fd), syscall.SOL_SOCKET, syscall.SO_PEERCRED)
	})
	if err != nil || problem != nil {
		// Nobody's: what cannot be asked is not trusted.
		return ^uint32(0), true
	}
	return credentials.Uid, true
}
