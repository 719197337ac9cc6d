//! A DNS server on loopback, by UDP and TCP, that says what the test wants.
#![allow(dead_code, reason = "the tests of the daemon and those of its parts each use a part")]

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use simple_dns::rdata::{A, AAAA, RData, SRV};
use simple_dns::{CLASS, Name, Packet, PacketFlag, QTYPE, RCODE, ResourceRecord, TYPE};

/// What it says of a name; of others that nobody has them.
#[derive(Clone, Debug)]
pub(crate) enum Says {
    Addresses(Vec<IpAddr>),
    Services(Vec<(String, u16)>),
    Fails,
}

/// What is said, and how often it was asked by UDP and TCP.
#[derive(Default)]
struct Zone {
    names: Mutex<BTreeMap<String, Says>>,
    asked: Mutex<[u64; 2]>,
}

/// Ends when it is dropped.
pub(crate) struct DnsServer {
    pub(crate) address: SocketAddr,
    zone: Arc<Zone>,
}

impl DnsServer {
    pub(crate) fn start() -> DnsServer {
        // The same port of both: the system's choice for the one may be taken for the other.
        let (tcp, udp) = (0..100)
            .find_map(|_| {
                let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
                let udp = UdpSocket::bind(tcp.local_addr().unwrap()).ok()?;
                Some((tcp, udp))
            })
            .unwrap();
        let address = tcp.local_addr().unwrap();
        let zone = Arc::new(Zone::default());
        udp.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        let known = Arc::downgrade(&zone);
        std::thread::spawn(move || serve_udp(&udp, &known));
        let known = Arc::downgrade(&zone);
        std::thread::spawn(move || {
            for stream in tcp.incoming() {
                let Some(zone) = known.upgrade() else { return };
                let _ = stream.and_then(|stream| serve_tcp(stream, &zone));
            }
        });
        DnsServer { address, zone }
    }

    pub(crate) fn say(&self, name: &str, says: Says) {
        self.zone.names.lock().unwrap().insert(name.to_owned(), says);
    }

    pub(crate) fn forget(&self, name: &str) {
        self.zone.names.lock().unwrap().remove(name);
    }

    /// How often it was asked, by UDP and by TCP.
    pub(crate) fn asked(&self) -> [u64; 2] {
        *self.zone.asked.lock().unwrap()
    }
}

impl Drop for DnsServer {
    fn drop(&mut self) {
        self.zone = Arc::default();
        // Wakes the thread that accepts.
        let _ = TcpStream::connect(self.address);
    }
}

fn serve_udp(socket: &UdpSocket, zone: &Weak<Zone>) {
    let mut buffer = [0; 512];
    loop {
        let received = socket.recv_from(&mut buffer);
        let Some(zone) = zone.upgrade() else { return };
        let Ok((length, from)) = received else { continue };
        zone.asked.lock().unwrap()[0] += 1;
        if let Some(answer) = zone.answer(&buffer[..length], 512) {
            // A forged answer comes first, under another number: nobody is to believe it.
            let mut forged = answer.clone();
            forged[0] ^= 0xff;
            let _ = socket.send_to(&forged, from);
            let _ = socket.send_to(&answer, from);
        }
    }
}

fn serve_tcp(mut stream: TcpStream, zone: &Zone) -> std::io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(2)))?;
    let mut length = [0; 2];
    stream.read_exact(&mut length)?;
    let mut question = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut question)?;
    zone.asked.lock().unwrap()[1] += 1;
    let answer = zone.answer(&question, usize::from(u16::MAX)).unwrap_or_default();
    stream.write_all(&u16::try_from(answer.len()).unwrap().to_be_bytes())?;
    stream.write_all(&answer)
}

impl Zone {
    /// The answer, or one that says that it is longer than that.
    fn answer(&self, question: &[u8], longest: usize) -> Option<Vec<u8>> {
        let asked = Packet::parse(question).ok()?;
        let [question] = &asked.questions[..] else { return None };
        let says = self.names.lock().unwrap().get(&question.qname.to_string()).cloned();
        let mut reply = Packet::new_reply(asked.id());
        reply.questions.push(question.clone());
        let record = |data| ResourceRecord::new(question.qname.clone(), CLASS::IN, 5, data);
        match (says, question.qtype) {
            (None, _) => *reply.rcode_mut() = RCODE::NameError,
            (Some(Says::Fails), _) => *reply.rcode_mut() = RCODE::ServerFailure,
            (Some(Says::Addresses(all)), QTYPE::TYPE(kind)) => {
                for ip in all {
                    match (ip, kind) {
                        (IpAddr::V4(ip), TYPE::A) => {
                            reply.answers.push(record(RData::A(A { address: ip.into() })))
                        }
                        (IpAddr::V6(ip), TYPE::AAAA) => {
                            reply.answers.push(record(RData::AAAA(AAAA { address: ip.into() })));
                        }
                        _ => {}
                    }
                }
            }
            (Some(Says::Services(all)), QTYPE::TYPE(TYPE::SRV)) => {
                for (target, port) in all {
                    let target = Name::new(&target).unwrap().into_owned();
                    reply.answers.push(record(RData::SRV(SRV { priority: 0, weight: 0, port, target })));
                }
            }
            _ => {}
        }
        let bytes = reply.build_bytes_vec().unwrap();
        if bytes.len() <= longest {
            return Some(bytes);
        }
        reply.answers.clear();
        reply.set_flags(PacketFlag::TRUNCATION);
        Some(reply.build_bytes_vec().unwrap())
    }
}
