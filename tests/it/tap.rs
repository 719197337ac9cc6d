//! A wire between two nodes that records what the first sends to the second.

use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

/// Kept at most.
const RECORDS: usize = 64;
/// How long its end may take.
const LOOK_UP_EVERY: Duration = Duration::from_millis(100);

pub(crate) struct Tap {
    /// Where the first node has the second one, and the second the first.
    pub(crate) second: SocketAddr,
    pub(crate) first: SocketAddr,
    as_first: UdpSocket,
    records: Arc<Mutex<Vec<Vec<u8>>>>,
    ends: Arc<AtomicBool>,
    ways: Vec<JoinHandle<()>>,
}

impl Tap {
    pub(crate) fn between(first: SocketAddr, second: SocketAddr) -> Tap {
        let socket = || {
            let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
            socket.set_read_timeout(Some(LOOK_UP_EVERY)).unwrap();
            socket
        };
        let (as_second, as_first) = (socket(), socket());
        let mut tap = Tap {
            second: as_second.local_addr().unwrap(),
            first: as_first.local_addr().unwrap(),
            as_first: as_first.try_clone().unwrap(),
            records: Arc::default(),
            ends: Arc::default(),
            ways: Vec::new(),
        };
        let records = Arc::clone(&tap.records);
        let record = move |frame: &[u8]| {
            let mut records = records.lock().unwrap();
            if records.len() < RECORDS {
                records.push(frame.to_vec());
            }
        };
        tap.carry((&as_second, &as_first), second, record);
        tap.carry((&as_first, &as_second), first, |_| {});
        tap
    }

    fn carry(
        &mut self,
        (from, by): (&UdpSocket, &UdpSocket),
        to: SocketAddr,
        see: impl Fn(&[u8]) + Send + 'static,
    ) {
        let (from, by, ends) = (from.try_clone().unwrap(), by.try_clone().unwrap(), Arc::clone(&self.ends));
        self.ways.push(std::thread::spawn(move || {
            let mut buffer = [0; 2048];
            while !ends.load(Ordering::Relaxed) {
                // What fails but the look-up is about a node that is away.
                let Ok(len) = from.recv(&mut buffer) else { continue };
                see(&buffer[..len]);
                let _ = by.send_to(&buffer[..len], to);
            }
        }));
    }

    /// What is sent by this seems to be sent by the first node.
    pub(crate) fn as_first(&self) -> UdpSocket {
        self.as_first.try_clone().unwrap()
    }

    /// What it has recorded until now.
    pub(crate) fn records(&self) -> Vec<Vec<u8>> {
        self.records.lock().unwrap().clone()
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
        for way in self.ways.drain(..) {
            way.join().unwrap();
        }
    }
}
