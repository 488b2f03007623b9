//! Is who listens this user's daemon, or root's?

use std::io;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::Path;

/// Listener and folder belong to the same one of these two, and nobody else can write the folder.
pub fn is_trusted(stream: &UnixStream, path: &Path) -> io::Result<bool> {
    let folder = std::fs::metadata(path.parent().unwrap_or(Path::new("/")))?;
    let listener = listener(stream)?.unwrap_or(folder.uid());
    let own = own();
    Ok((listener == own || listener == 0) && folder.uid() == listener && folder.mode() & 0o022 == 0)
}

extern "C" {
    fn geteuid() -> u32;
}

fn own() -> u32 {
    // SAFETY: geteuid(2) takes nothing, touches no memory, and always succeeds.
    unsafe { geteuid() }
}

/// The user who called listen(2), as the kernel noted it then (SO_PEERCRED, unix(7)).
#[cfg(target_os = "linux")]
fn listener(stream: &UnixStream) -> io::Result<Option<u32>> {
    use std::os::fd::AsRawFd;

    extern "C" {
        fn getsockopt(fd: i32, level: i32, name: i32, value: *mut std::ffi::c_void, length: *mut u32) -> i32;
    }
    const SOL_SOCKET: i32 = 1;
    const SO_PEERCRED: i32 = 17;
    let mut credentials = [u32::MAX; 3]; // struct ucred: pid, uid, gid
    let mut length = std::mem::size_of_val(&credentials) as u32;
    // SAFETY: the kernel writes at most `length` bytes, which is the size of the array, and the descriptor is open.
    let done = unsafe {
        getsockopt(stream.as_raw_fd(), SOL_SOCKET, SO_PEERCRED, credentials.as_mut_ptr().cast(), &mut length)
    };
    if done == 0 {
        Ok(Some(credentials[1]))
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Not asked here: the owner of the folder counts alone.
#[cfg(not(target_os = "linux"))]
fn listener(_: &UnixStream) -> io::Result<Option<u32>> {
    Ok(None)
}
