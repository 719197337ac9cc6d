//! Look-ups: by the system's resolver, or, for service records and where `dns_servers` are set, by asking DNS servers.
//! That nobody has a name is an answer, and no failure.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use rand::TryRng;
use rand::rngs::SysRng;
use simple_dns::rdata::RData;
use simple_dns::{CLASS, Name, Packet, PacketFlag, QCLASS, QTYPE, Question, RCODE, ResourceRecord, TYPE};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

/// One server has so long for one answer.
const WITHIN: Duration = Duration::from_millis(1500);
/// Each server is asked so often.
const ROUNDS: usize = 2;
/// The longest answer by UDP without EDNS, which old servers and firewalls do not know; a longer one is fetched by TCP.
const DATAGRAM: usize = 512;
/// Where the system says whom to ask.
const RESOLV_CONF: &str = "/etc/resolv.conf";

/// Who is asked.
#[derive(Clone, Debug)]
pub(super) struct Resolver {
    /// Empty: the system's resolver.
    pub(super) servers: Vec<SocketAddr>,
    /// Where this node listens: what that cannot reach is no address of a peer.
    pub(super) listen: SocketAddr,
}

impl Resolver {
    /// The addresses of a host that can be reached from here; none if it has none.
    ///
    /// # Errors
    /// Nobody could say.
    pub(super) async fn addresses(&self, name: &str, port: u16) -> Result<Vec<SocketAddr>, String> {
        let mut found = if self.servers.is_empty() {
            match tokio::net::lookup_host((name, port)).await {
                Ok(found) => found.collect(),
                Err(e) if is_nobody(&e) => Vec::new(),
                Err(e) => return Err(e.to_string()),
            }
        } else {
            let (four, six) = tokio::join!(self.of_family(name, TYPE::A), self.of_family(name, TYPE::AAAA));
            four?.into_iter().chain(six?).map(|ip| SocketAddr::new(ip, port)).collect::<Vec<_>>()
        };
        found.retain(|address| self.reaches(address.ip()));
        Ok(found)
    }

    async fn of_family(&self, name: &str, family: TYPE) -> Result<Vec<IpAddr>, String> {
        let listen = self.listen.ip();
        let other = if listen.is_ipv4() { TYPE::AAAA } else { TYPE::A };
        if family == other && !(listen.is_ipv6() && listen.is_unspecified()) {
            return Ok(Vec::new());
        }
        let read = |record: &ResourceRecord<'_>| match &record.rdata {
            RData::A(a) => Some(IpAddr::V4(a.address.into())),
            RData::AAAA(a) => Some(IpAddr::V6(a.address.into())),
            _ => None,
        };
        ask(&self.servers, name, family, &read).await
    }

    /// The targets and ports of the service records of a name; none if it has none.
    ///
    /// # Errors
    /// Nobody could say.
    pub(super) async fn services(&self, name: &str) -> Result<Vec<(String, u16)>, String> {
        let read = |record: &ResourceRecord<'_>| match &record.rdata {
            RData::SRV(srv) => Some((srv.target.to_string().to_ascii_lowercase(), srv.port)),
            _ => None,
        };
        let servers = if self.servers.is_empty() { of_system()? } else { self.servers.clone() };
        let mut found = ask(&servers, name, TYPE::SRV, &read).await?;
        // The root as a target says that there is no such service (RFC 2782).
        found.retain(|(target, _)| !target.is_empty());
        Ok(found)
    }

    /// A socket on [::] reaches both families, any other only its own.
    fn reaches(&self, ip: IpAddr) -> bool {
        let listen = self.listen.ip();
        (listen.is_ipv6() && listen.is_unspecified()) || listen.is_ipv4() == ip.is_ipv4()
    }
}

/// Whether the system's resolver was told that there is no such host, or that it has no address. Its code is lost on the way
/// here; its text, that of glibc in the locale "C", is not. Where it reads otherwise that counts as a failure, which forgets nobody.
fn is_nobody(error: &io::Error) -> bool {
    let text = error.to_string();
    ["Name or service not known", "No address associated with hostname"].iter().any(|end| text.ends_with(end))
}

/// The servers of the system, read anew each time: they change where a machine moves.
fn of_system() -> Result<Vec<SocketAddr>, String> {
    let text = std::fs::read_to_string(RESOLV_CONF).map_err(|e| format!("{RESOLV_CONF}: {e}"))?;
    let servers = servers_in(&text);
    if servers.is_empty() { Err(format!("{RESOLV_CONF} names no server")) } else { Ok(servers) }
}

fn servers_in(text: &str) -> Vec<SocketAddr> {
    let server = |line: &str| {
        let mut words = line.split_whitespace();
        let ip = words.next().filter(|word| *word == "nameserver").and_then(|_| words.next())?;
        Some(SocketAddr::new(ip.parse().ok()?, 53))
    };
    text.lines().filter_map(server).collect()
}

/// What `read` finds in the first answer of a server.
async fn ask<T>(
    servers: &[SocketAddr],
    name: &str,
    kind: TYPE,
    read: &(dyn Fn(&ResourceRecord<'_>) -> Option<T> + Sync),
) -> Result<Vec<T>, String> {
    let mut why = String::new();
    for server in servers.iter().cycle().take(servers.len() * ROUNDS) {
        let id = SysRng.try_next_u32().map_err(|e| e.to_string())? as u16;
        let question = question(name, kind, id)?;
        let answer = timeout(WITHIN, exchange(*server, &question, id)).await;
        let answer = answer.unwrap_or_else(|_| Err(format!("no answer within {WITHIN:?}")));
        match answer.and_then(|bytes| read_answer(&bytes, read)) {
            Ok(found) => return Ok(found),
            Err(said) => why = format!("{server}: {said}"),
        }
    }
    Err(why)
}

fn question(name: &str, kind: TYPE, id: u16) -> Result<Vec<u8>, String> {
    let wrong = |e: simple_dns::SimpleDnsError| format!("{name} cannot be asked for: {e}");
    let mut packet = Packet::new_query(id);
    packet.set_flags(PacketFlag::RECURSION_DESIRED);
    let name = Name::new(name).map_err(wrong)?;
    packet.questions.push(Question::new(name, QTYPE::TYPE(kind), QCLASS::CLASS(CLASS::IN), false));
    packet.build_bytes_vec().map_err(wrong)
}

/// Asks by UDP, and by TCP if the answer does not fit. The port is the system's choice and the number is random, so that who is
/// not on the path has to guess both.
async fn exchange(server: SocketAddr, question: &[u8], id: u16) -> Result<Vec<u8>, String> {
    let text = |e: io::Error| e.to_string();
    let any = if server.is_ipv4() { SocketAddr::from(([0; 4], 0)) } else { SocketAddr::from(([0; 16], 0)) };
    let socket = UdpSocket::bind(any).await.map_err(text)?;
    socket.connect(server).await.map_err(text)?;
    socket.send(question).await.map_err(text)?;
    let mut buffer = [0; DATAGRAM];
    loop {
        let length = socket.recv(&mut buffer).await.map_err(text)?;
        match is_answer(&buffer[..length], question, id) {
            Some(PacketFlag::TRUNCATION) => break,
            Some(_) => return Ok(buffer[..length].to_vec()),
            // Not to this question: a late one, or a forged one.
            None => {}
        }
    }
    let mut stream = TcpStream::connect(server).await.map_err(text)?;
    let length = u16::try_from(question.len()).expect("a name has 255 bytes at most");
    stream.write_all(&[&length.to_be_bytes(), question].concat()).await.map_err(text)?;
    let mut answer = vec![0; usize::from(stream.read_u16().await.map_err(text)?)];
    stream.read_exact(&mut answer).await.map_err(text)?;
    is_answer(&answer, question, id).map(|_| answer).ok_or_else(|| "it answers another question".to_owned())
}

/// Whether `bytes` answer this question; then whether they are cut short.
fn is_answer(bytes: &[u8], question: &[u8], id: u16) -> Option<PacketFlag> {
    let (answer, question) = (Packet::parse(bytes).ok()?, Packet::parse(question).ok()?);
    let same = |a: &Question<'_>, q: &Question<'_>| {
        a.qtype == q.qtype && a.qname.to_string().eq_ignore_ascii_case(&q.qname.to_string())
    };
    let is_same = answer.questions.len() == question.questions.len()
        && answer.questions.iter().zip(&question.questions).all(|(a, q)| same(a, q));
    let fits = answer.id() == id && answer.has_flags(PacketFlag::RESPONSE) && is_same;
    let cut =
        if answer.has_flags(PacketFlag::TRUNCATION) { PacketFlag::TRUNCATION } else { PacketFlag::RESPONSE };
    fits.then_some(cut)
}

fn read_answer<T>(bytes: &[u8], read: &dyn Fn(&ResourceRecord<'_>) -> Option<T>) -> Result<Vec<T>, String> {
    let answer = Packet::parse(bytes).map_err(|e| e.to_string())?;
    match answer.rcode() {
        RCODE::NoError => Ok(answer.answers.iter().filter_map(read).collect()),
        RCODE::NameError => Ok(Vec::new()),
        RCODE::ServerFailure => Err("it answers that it fails (SERVFAIL)".to_owned()),
        RCODE::Refused => Err("it refuses to answer (REFUSED)".to_owned()),
        other => Err(format!("it answers with the error {other:?}")),
    }
}

#[cfg(test)]
pub(super) mod tests;
