//! The socket's file: bound so that nobody meets it with another mode, and removed at the end.

use std::fs::{self, Permissions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use socket2::{Domain, SockAddr, Socket, Type};

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 64;

/// Connects, and waits no longer than this: of a daemon that does not accept the queue may be full.
pub(super) fn connect(path: &Path, within: Duration) -> io::Result<UnixStream> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_write_timeout(Some(within))?;
    socket.connect(&SockAddr::unix(path)?)?;
    Ok(UnixStream::from(OwnedFd::from(socket)))
}

/// The file of a bound socket. Dropping this removes it, unless another one has taken its place.
#[derive(Debug)]
pub(super) struct SocketFile {
    path: PathBuf,
    inode: (u64, u64),
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if inode(&self.path).is_ok_and(|inode| inode == self.inode) {
            // If that fails the next daemon finds it, and that nobody answers there.
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn inode(path: &Path) -> io::Result<(u64, u64)> {
    fs::symlink_metadata(path).map(|file| (file.dev(), file.ino()))
}

/// Binds. What a dead daemon left is replaced; all else that lies there stays. The directory must not be one
/// that others can write to: no symbolic link is bound through, but who can replace the file can have the mode put on another.
///
/// # Errors
/// What is in the way.
pub(super) fn bind(path: &Path, mode: u32) -> io::Result<(UnixListener, SocketFile)> {
    clear(path)?;
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.bind(&SockAddr::unix(path)?)?;
    let file = SocketFile { path: path.to_owned(), inode: inode(path)? };
    // Until it listens nobody can connect.
    fs::set_permissions(path, Permissions::from_mode(mode))?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok((UnixListener::from(OwnedFd::from(socket)), file))
}

/// Makes room for a socket.
fn clear(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(e),
        Ok(file) if !file.file_type().is_socket() => {
            return Err(io::Error::other("what lies there is no socket, and is left alone"));
        }
        Ok(_) => {}
    }
    match connect(path, Duration::from_millis(100)) {
        Err(e) if e.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
        Err(e) if e.kind() != io::ErrorKind::WouldBlock => Err(e),
        _ => Err(io::Error::new(io::ErrorKind::AddrInUse, "a daemon listens there already")),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn place() -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lastseen.sock");
        (dir, path)
    }

    #[test]
    fn it_has_its_mode_and_is_removed() {
        let (_dir, path) = place();
        for mode in [0o600, 0o660, 0o666] {
            let bound = bind(&path, mode).unwrap();
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, mode);
            drop(bound);
            assert!(!path.exists());
        }
    }

    #[test]
    fn what_a_dead_daemon_left_is_replaced() {
        let (_dir, path) = place();
        drop(UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        let _bound = bind(&path, 0o600).unwrap();
        assert!(connect(&path, Duration::from_secs(5)).is_ok());
    }

    #[test]
    fn a_live_one_is_an_error_even_if_it_does_not_accept() {
        let (_dir, path) = place();
        let _live = bind(&path, 0o600).unwrap();
        let mut waiting = Vec::new();
        loop {
            assert_eq!(bind(&path, 0o600).unwrap_err().kind(), io::ErrorKind::AddrInUse);
            match connect(&path, Duration::from_millis(10)) {
                Ok(stream) => waiting.push(stream),
                Err(full) => break assert_eq!(full.kind(), io::ErrorKind::WouldBlock),
            }
        }
        assert_eq!(bind(&path, 0o600).unwrap_err().kind(), io::ErrorKind::AddrInUse, "the queue is full");
        assert!(path.exists());
    }

    #[test]
    fn what_is_no_socket_is_left_alone_and_no_link_followed() {
        let (dir, path) = place();
        let elsewhere = dir.path().join("elsewhere");
        symlink(&elsewhere, &path).unwrap();
        assert!(bind(&path, 0o600).is_err(), "a link to nothing");
        assert!(!elsewhere.exists());
        drop(UnixListener::bind(&elsewhere).unwrap());
        assert!(bind(&path, 0o600).is_err(), "a link to what a dead daemon left");
        assert!(elsewhere.exists() && path.is_symlink());
        fs::remove_file(&path).unwrap();
        fs::write(&path, "text").unwrap();
        assert!(bind(&path, 0o600).is_err());
        assert_eq!(fs::read_to_string(&path).unwrap(), "text");
    }

    #[test]
    fn the_file_of_another_is_not_removed() {
        let (_dir, path) = place();
        let (_listener, file) = bind(&path, 0o600).unwrap();
        fs::remove_file(&path).unwrap();
        let _other = UnixListener::bind(&path).unwrap();
        drop(file);
        assert!(path.exists());
    }
}
