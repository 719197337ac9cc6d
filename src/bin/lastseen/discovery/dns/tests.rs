use super::*;

#[path = "../../../../../tests/it/harness/dns.rs"]
pub(crate) mod server;

use server::{DnsServer, Says};

fn resolver(servers: &[SocketAddr], listen: &str) -> Resolver {
    Resolver { servers: servers.to_vec(), listen: listen.parse().unwrap() }
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[tokio::test]
async fn addresses_of_the_families_that_can_be_reached() {
    let server = DnsServer::start();
    server.say("x.example", Says::Addresses(vec![ip("10.0.0.1"), ip("2001:db8::1"), ip("10.0.0.2")]));
    for (listen, found) in [
        ("0.0.0.0:1", vec!["10.0.0.1:7", "10.0.0.2:7"]),
        ("[::]:1", vec!["10.0.0.1:7", "10.0.0.2:7", "[2001:db8::1]:7"]),
        ("[::1]:1", vec!["[2001:db8::1]:7"]),
    ] {
        let found: Vec<SocketAddr> = found.iter().map(|text| text.parse().unwrap()).collect();
        assert_eq!(
            resolver(&[server.address], listen).addresses("x.example", 7).await,
            Ok(found),
            "{listen}"
        );
    }
}

#[tokio::test]
async fn that_nobody_has_a_name_is_no_failure() {
    let server = DnsServer::start();
    let resolver = resolver(&[server.address], "[::]:1");
    assert_eq!(resolver.addresses("nobody.example", 1).await, Ok(Vec::new()));
    assert_eq!(resolver.services("nobody.example").await, Ok(Vec::new()));
    server.say("empty.example", Says::Addresses(Vec::new()));
    assert_eq!(resolver.services("empty.example").await, Ok(Vec::new()));
    server.say("broken.example", Says::Fails);
    for why in [
        resolver.addresses("broken.example", 1).await.unwrap_err(),
        resolver.services("broken.example").await.unwrap_err(),
    ] {
        assert!(why.contains("SERVFAIL") && why.contains(&server.address.to_string()), "{why}");
    }
}

#[tokio::test]
async fn services_that_do_not_fit_into_a_datagram_come_by_tcp() {
    let server = DnsServer::start();
    let resolver = resolver(&[server.address], "[::]:1");
    let all = |count: u16| (0..count).map(|n| (format!("node-{n}.example"), 5278 + n)).collect::<Vec<_>>();
    server.say("_lastseen._udp.example", Says::Services(all(3)));
    assert_eq!(resolver.services("_lastseen._udp.example").await, Ok(all(3)));
    assert_eq!(server.asked(), [1, 0]);
    server.say("_lastseen._udp.example", Says::Services(all(300)));
    assert_eq!(resolver.services("_lastseen._udp.example").await, Ok(all(300)));
    assert_eq!(server.asked(), [2, 1]);
    server.say("none.example", Says::Services(vec![(".".to_owned(), 0)]));
    assert_eq!(resolver.services("none.example").await, Ok(Vec::new()), "RFC 2782: there is none");
}

#[tokio::test]
async fn another_server_is_asked_where_one_fails() {
    let (broken, right) = (DnsServer::start(), DnsServer::start());
    broken.say("x.example", Says::Fails);
    right.say("x.example", Says::Addresses(vec![ip("10.0.0.1")]));
    let deaf = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let servers = [deaf.local_addr().unwrap(), broken.address, right.address];
    let found = resolver(&servers, "0.0.0.0:1").addresses("x.example", 1).await;
    assert_eq!(found, Ok(vec!["10.0.0.1:1".parse().unwrap()]));
}

#[test]
fn the_servers_of_the_system() {
    let text = "# nameserver 10.0.0.1\nsearch example\nnameserver 10.0.0.2\nnameserver\nnameserver ::1 # x\n";
    assert_eq!(servers_in(text), ["10.0.0.2:53".parse().unwrap(), "[::1]:53".parse().unwrap()]);
}

#[tokio::test]
async fn the_systems_resolver_is_asked_where_no_server_is_set() {
    let found = resolver(&[], "127.0.0.1:1").addresses("localhost", 7).await;
    assert_eq!(found, Ok(vec!["127.0.0.1:7".parse().unwrap()]));
    let text = "failed to lookup address information: Name or service not known";
    assert!(is_nobody(&io::Error::other(text)));
    assert!(!is_nobody(&io::Error::other(
        "failed to lookup address information: Temporary failure in name resolution"
    )));
}
