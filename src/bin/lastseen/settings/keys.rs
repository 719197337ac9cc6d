//! The cluster's keys: read from their files, and the rule when one is needed.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use lastseen::proto::SecretKey;
use zeroize::Zeroize;

use super::raw::{Fault, Source};
use super::table::Values;

/// Reads every key file.
pub(crate) fn read(values: &Values, source: &Source) -> Result<Vec<SecretKey>, Vec<Fault>> {
    if values.key_files.len() > 4 {
        return Err(vec![Fault::at(
            source,
            format!("security.key_files: at most 4 files, here are {}", values.key_files.len()),
        )]);
    }
    let (mut keys, mut faults) = (Vec::new(), Vec::new());
    for path in &values.key_files {
        match read_one(path) {
            Ok(key) => keys.push(key),
            Err(why) => faults.push(Fault::at(source, format!("key file {}: {why}", path.display()))),
        }
    }
    if faults.is_empty() { Ok(keys) } else { Err(faults) }
}

fn read_one(path: &Path) -> Result<SecretKey, String> {
    let shown = path.display();
    let mut file = File::open(path).map_err(|e| {
        format!("{e}; make one with `umask 077; lastseen keygen > {shown}`, the same on every node")
    })?;
    let metadata = file.metadata().map_err(|e| e.to_string())?;
    if !metadata.is_file() {
        return Err("is no regular file".to_owned());
    }
    // The group may read: that is how a secret reaches a service that does not run as its owner.
    let mode = metadata.permissions().mode() & 0o777;
    if mode & 0o007 != 0 {
        return Err(format!("can be read or changed by others (mode {mode:04o}); `chmod o= {shown}`"));
    }
    // A fixed buffer, so that no copy of the key stays behind in freed memory.
    let mut buffer = [0u8; 256];
    let mut length = 0;
    let read = loop {
        match file.read(&mut buffer[length..]) {
            Ok(0) => break parse(&buffer[..length]).filter(|_| length < buffer.len()),
            Ok(n) => length += n,
            Err(e) => {
                buffer.zeroize();
                return Err(e.to_string());
            }
        }
    };
    buffer.zeroize();
    read.ok_or_else(|| {
        "is no lastseen key; right is one line, `lastseen-key-1:` and 44 characters of base64, as \
         `lastseen keygen` prints"
            .to_owned()
    })
}

fn parse(bytes: &[u8]) -> Option<SecretKey> {
    SecretKey::from_text(std::str::from_utf8(bytes).ok()?).ok()
}

/// A node may run without a key only if nobody off the machine can reach it, or if the operator said so.
pub(crate) fn check_needed(values: &Values) -> Option<Fault> {
    if !values.key_files.is_empty() || values.insecure {
        return None;
    }
    let exposed = if values.listen_address.ip().to_canonical().is_loopback() {
        let peer = values.static_peers.iter().find(|p| !p.is_loopback())?;
        format!("the peer \"{peer}\" is not on loopback")
    } else {
        format!("it listens on {}, which is not on loopback", values.listen_address)
    };
    Some(Fault::general(format!(
        "no cluster key, and {exposed}: anybody who reaches the port could speak for any node.\n\
         Make a key and copy it to every node, readable by its owner only:\n\
         \x20   umask 077; lastseen keygen > /etc/lastseen/cluster.key\n\
         and name it in {}:\n\
         \x20   [security]\n\
         \x20   key_files = [\"/etc/lastseen/cluster.key\"]\n\
         (On a network that you trust wholly: insecure = true instead of key_files.)",
        super::file::DEFAULT_PATH
    )))
}
