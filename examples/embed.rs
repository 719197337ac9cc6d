//! A failure detector inside of a program of one's own: two nodes in one process, on loopback.
//!
//! `cargo run --example embed`

use std::error::Error;

use lastseen::net::{Options, spawn};
use lastseen::proto::{Keyring, LeaveReason, PeerConfig, StaticPeer};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let any = "127.0.0.1:0".parse()?;
    let entry = |id: &str, address| StaticPeer { server_id: Some(id.into()), name: id.into(), address };
    // Without a key, as here, anybody on this machine can speak for a node.
    let keys = || Keyring::new("example", &[], true);

    // The first does not know yet where the second will be.
    let config = PeerConfig::new("one", "example", any, vec![entry("two", None)]);
    let (one, _) = spawn(config, keys()?, Options::default()).await?;
    let mut events = one.subscribe();
    let config = PeerConfig::new("two", "example", any, vec![entry("one", Some(one.local_addr()))]);
    let (two, _) = spawn(config, keys()?, Options::default()).await?;
    one.set_address(0, two.local_addr());

    // What the first says from here on: it hears the second, and then that it has left.
    let mut leave = Some(two);
    while let Some(Ok(event)) = events.next().await {
        println!("{}: {}", event.peer.as_deref().unwrap_or("this node"), event.why);
        let picture = one.snapshot().await.ok_or("the loop has ended")?;
        println!("  {:?}, quorum: {}", picture.status, picture.status.is_quorum_available());
        match leave.take() {
            Some(two) if picture.status.is_quorum_available() => drop(two.leave(LeaveReason::Restart).await),
            Some(two) => leave = Some(two),
            None => break,
        }
    }
    Ok(())
}
