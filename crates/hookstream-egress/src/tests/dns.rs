//! Names that lead elsewhere, with a name server that answers as it is told.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Mutex;

use hickory_resolver::proto::op::{Message, MessageType, ResponseCode};
use hickory_resolver::proto::rr::rdata::CNAME;
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};
use hookstream_core::endpoint::Refusal;
use http::Uri;
use tokio::net::{TcpListener, UdpSocket};
use tower_service::Service as _;

use super::*;
use crate::dial::Dial;
use crate::resolve::Resolver;

/// What a name has.
#[derive(Clone, Debug)]
enum Answer {
    Addresses(Vec<IpAddr>),
    Alias(&'static str),
    Code(ResponseCode),
    Silence,
}

/// A name server of this test's own: A and AAAA of one name are one question.
struct NameServer {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
}

impl NameServer {
    async fn start(answers: impl IntoIterator<Item = Answer>) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let mut answers: VecDeque<Answer> = answers.into_iter().collect();
        let noted = Arc::clone(&asked);
        tokio::task::spawn_local(async move {
            let mut buffer = [0; 1_024];
            loop {
                let (len, from) = socket.recv_from(&mut buffer).await.unwrap();
                let question = Message::from_vec(&buffer[..len]).unwrap();
                let query = question.queries[0].clone();
                noted.lock().unwrap().push(query.name().to_string());
                // The last one is for good.
                let pair = query.query_type() == RecordType::AAAA && answers.len() > 1;
                let answer = answers[0].clone();
                if pair {
                    answers.pop_front();
                }
                let Some(reply) = reply(&question, query.name(), query.query_type(), &answer) else {
                    continue;
                };
                socket.send_to(&reply.to_vec().unwrap(), from).await.unwrap();
            }
        });
        Self { address, asked }
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

fn reply(question: &Message, name: &Name, kind: RecordType, answer: &Answer) -> Option<Message> {
    let mut reply = question.clone();
    reply.metadata.message_type = MessageType::Response;
    match answer {
        Answer::Addresses(addresses) => {
            for address in addresses {
                let data = match address {
                    IpAddr::V4(v4) if kind == RecordType::A => RData::A((*v4).into()),
                    IpAddr::V6(v6) if kind == RecordType::AAAA => RData::AAAA((*v6).into()),
                    _ => continue,
                };
                reply.add_answer(Record::from_rdata(name.clone(), 0, data));
            }
        }
        Answer::Alias(to) => {
            let data = RData::CNAME(CNAME(Name::from_ascii(to).unwrap()));
            reply.add_answer(Record::from_rdata(name.clone(), 0, data));
        }
        Answer::Code(code) => reply.metadata.response_code = *code,
        Answer::Silence => return None,
    }
    Some(reply)
}

/// Loopback stands for forbidden ground here, and one of its addresses for the public Internet.
const PUBLIC: [u8; 4] = [127, 0, 0, 2];

fn strict(server: Option<&NameServer>) -> Egress {
    let allow = vec!["127.0.0.2".parse().unwrap()];
    let name_servers = server.map(|server| server.address).into_iter().collect();
    Egress { allow_http: true, allow, name_servers, ..Egress::default() }
}

fn strict_client(server: &NameServer) -> Client {
    Client::with_roots(&strict(Some(server)), RootCertStore::empty()).unwrap()
}

fn addresses(texts: &[&str]) -> Answer {
    Answer::Addresses(texts.iter().map(|text| text.parse().unwrap()).collect())
}

/// Listens where a request must never arrive.
struct Canary {
    port: u16,
    connections: Arc<Mutex<Vec<SocketAddr>>>,
}

impl Canary {
    async fn start(port: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let connections = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&connections);
        tokio::task::spawn_local(async move {
            while let Ok((_stream, from)) = listener.accept().await {
                seen.lock().unwrap().push(from);
            }
        });
        Self { port, connections }
    }

    fn assert_untouched(&self) {
        assert_eq!(*self.connections.lock().unwrap(), []);
    }
}

async fn local<F: Future>(test: F) -> F::Output {
    tokio::task::LocalSet::new().run_until(test).await
}

#[tokio::test]
async fn an_address_in_the_url_is_vetted_where_it_is_dialled() {
    local(async {
        let canary = Canary::start(0).await;
        let settings = strict(None);
        let resolver = Resolver::new(&[]).unwrap();
        let mut dial = Dial { policy: Arc::new(settings.policy()), resolver, proxy: None };
        for host in ["127.0.0.1", "[::1]", "[::ffff:127.0.0.1]", "0.0.0.0", "169.254.169.254"] {
            let to: Uri = format!("http://{host}:{}/", canary.port).parse().unwrap();
            let refused = dial.call(to).await.unwrap_err();
            assert_eq!(refused.downcast_ref::<Refusal>(), Some(&Refusal::Address), "{host}");
        }
        // And before a connection is thought of.
        let client = Client::with_roots(&settings, RootCertStore::empty()).unwrap();
        for host in [
            "127.0.0.1",
            "2130706433",
            "0x7f.1",
            "0177.0.0.1",
            "[::ffff:7f00:1]",
            "localhost",
            "sink",
            "a.internal",
        ] {
            let exchange = post(&client, &format!("http://{host}:{}/", canary.port)).await;
            assert_eq!(kind(&exchange), FailureKind::Forbidden, "{host}: {exchange:?}");
        }
        let https_only = Client::with_roots(&Egress::default(), RootCertStore::empty()).unwrap();
        assert_eq!(kind(&post(&https_only, "http://a.example/").await), FailureKind::Forbidden);
        canary.assert_untouched();
    })
    .await;
}

/// dns-001: what was vetted is what is dialled, and the next connection is vetted anew.
#[tokio::test]
async fn a_name_that_changes_its_mind() {
    local(async {
        let server =
            NameServer::start([Answer::Addresses(vec![PUBLIC.into()]), addresses(&["127.0.0.1"])]).await;
        let listener = TcpListener::bind((Ipv4Addr::from(PUBLIC), 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let canary = Canary::start(port).await;
        let client = strict_client(&server);
        let url = format!("http://rebind.example:{port}/");
        let receiver = std::rc::Rc::new(Receiver::start());
        receiver.on("/", Behaviour::from(super::Answer::status(200).header("connection", "close")));
        let serving = std::rc::Rc::clone(&receiver);
        tokio::task::spawn_local(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::task::spawn_local(serving.serve(stream));
            }
        });
        assert_eq!(response(post(&client, &url).await).status, 200);
        assert_eq!(kind(&post(&client, &url).await), FailureKind::Forbidden);
        assert_eq!(receiver.seen(|seen| seen.total()), 1);
        canary.assert_untouched();
    })
    .await;
}

/// dns-003 and the corpus' names that lead to forbidden ground.
#[tokio::test]
async fn one_forbidden_address_spoils_all() {
    local(async {
        let canary = Canary::start(0).await;
        for answer in [
            addresses(&["127.0.0.1"]),
            addresses(&["127.0.0.2", "127.0.0.1"]),
            addresses(&["127.0.0.2", "::1"]),
            addresses(&["127.0.0.2", "::ffff:127.0.0.1"]),
            addresses(&["127.0.0.2", "10.0.0.1"]),
            addresses(&["169.254.169.254"]),
            addresses(&["fd00:ec2::254"]),
        ] {
            let server = NameServer::start([answer.clone()]).await;
            let exchange = post(&strict_client(&server), &format!("http://a.example:{}/", canary.port)).await;
            assert_eq!(kind(&exchange), FailureKind::Forbidden, "{answer:?}: {exchange:?}");
            let message = exchange.result.unwrap_err().message;
            assert!(!message.contains("10.0.0.1") && message.contains("a.example"), "{message}");
        }
        canary.assert_untouched();
    })
    .await;
}

/// dns-005, 008, 010.
#[tokio::test]
async fn names_without_addresses() {
    local(async {
        for (answer, why) in [
            (Answer::Code(ResponseCode::NXDomain), "there is no such name"),
            (Answer::Code(ResponseCode::ServFail), "its servers answered"),
            (Answer::Addresses(Vec::new()), "it has no address"),
            (Answer::Alias("loop.example."), ""),
        ] {
            let server = NameServer::start([answer.clone()]).await;
            let exchange = post(&strict_client(&server), "http://loop.example/?token=secret").await;
            assert_eq!(kind(&exchange), FailureKind::Dns, "{answer:?}: {exchange:?}");
            assert!(exchange.timings.total < Duration::from_secs(6), "{exchange:?}");
            let message = exchange.result.unwrap_err().message;
            assert!(message.contains(why) && message.contains("`loop.example`"), "{message}");
            assert!(!message.contains("secret"), "{message}");
        }
    })
    .await;
}

#[tokio::test]
async fn servers_that_say_nothing_cost_their_own_deliveries_only() {
    local(async {
        let server = NameServer::start([Answer::Silence]).await;
        let client = std::rc::Rc::new(strict_client(&server));
        let late = client.exchange(&request("http://slow.example/", SHORT)).await;
        assert_eq!(kind(&late), FailureKind::Timeout, "{late:?}");
        let slow = post(&client, "http://slow.example/").await;
        assert_eq!(kind(&slow), FailureKind::Dns, "{slow:?}");
        assert!(slow.timings.total < Duration::from_secs(7), "{slow:?}");
        assert!(slow.result.unwrap_err().message.contains("in time"));
    })
    .await;
}

/// dns-011: no search list, and one question for all who ask at once.
#[tokio::test]
async fn names_are_complete_and_asked_for_once() {
    local(async {
        let server = NameServer::start([Answer::Code(ResponseCode::NXDomain)]).await;
        let client = strict_client(&server);
        let url = "http://hooks.example/";
        let all =
            tokio::join!(post(&client, url), post(&client, url), post(&client, "http://hooks.example./"));
        for exchange in [&all.0, &all.1] {
            assert_eq!(kind(exchange), FailureKind::Dns);
        }
        let asked = server.asked();
        assert!(asked.iter().all(|name| name == "hooks.example."), "{asked:?}");
        // A and AAAA, for each spelling of the name at most.
        assert!(asked.len() <= 4, "{asked:?}");
    })
    .await;
}

/// dns-013: what this machine's own file says is vetted as well.
#[tokio::test]
async fn the_hosts_file_is_vetted() {
    local(async {
        let canary = Canary::start(0).await;
        let server = NameServer::start([Answer::Code(ResponseCode::NXDomain)]).await;
        let resolver = Resolver::new(&[server.address]).unwrap();
        let resolver = resolver.with_host("hooks.example.com.", Ipv4Addr::LOCALHOST);
        let policy = Arc::new(strict(None).policy());
        let mut dial = Dial { policy, resolver, proxy: None };
        let to: Uri = format!("http://hooks.example.com:{}/", canary.port).parse().unwrap();
        let refused = dial.call(to).await.unwrap_err();
        assert_eq!(refused.downcast_ref::<Refusal>(), Some(&Refusal::Address));
        canary.assert_untouched();
    })
    .await;
}
