//! Who shares connections with whom, and the proxy that all of them may go through.

use hookstream_types::SecretString;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};

use super::*;

#[tokio::test]
async fn accounts_never_share_a_connection() {
    let receiver = Receiver::start();
    let client = client();
    let of = |account: u128| Request {
        account: AccountUid(Uuid::from_u128(account)),
        ..request(&receiver.url("/"), LONG)
    };
    for account in [1, 1, 2, 2, 1] {
        assert_eq!(response(client.exchange(&of(account)).await).status, 200);
    }
    assert_eq!(receiver.seen(|seen| (seen.total(), seen.connections())), (5, 2));
}

#[tokio::test]
async fn interim_responses_are_passed_over_but_not_for_ever() {
    let receiver = Receiver::start();
    let hints = |count: usize| {
        let mut bytes = "HTTP/1.1 103 Early Hints\r\n\r\n".repeat(count);
        bytes.push_str("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
        Behaviour::raw(bytes, hookstream_testkit::receiver::Then::Hang)
    };
    receiver.on("/", hints(10));
    assert_eq!(response(post(&client(), &receiver.url("/")).await).status, 200);
    receiver.on(
        "/",
        Behaviour::raw(
            "HTTP/1.1 103 Early Hints\r\n\r\n".repeat(100),
            hookstream_testkit::receiver::Then::Hang,
        ),
    );
    let exchange = post(&client(), &receiver.url("/")).await;
    assert_eq!(kind(&exchange), FailureKind::Protocol, "{exchange:?}");
    assert!(exchange.timings.total < LONG);
}

/// Tunnels to wherever it is asked to, and notes what it was asked.
async fn proxy(asked: Arc<std::sync::Mutex<Vec<String>>>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::task::spawn_local(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let asked = Arc::clone(&asked);
            tokio::task::spawn_local(async move {
                let mut stream = BufReader::new(stream);
                let mut head = String::new();
                while !head.ends_with("\r\n\r\n") {
                    stream.read_line(&mut head).await.unwrap();
                }
                let to = head.split(' ').nth(1).unwrap().to_owned();
                asked.lock().unwrap().push(head);
                let mut target = TcpStream::connect(to).await.unwrap();
                stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
                // Whoever hangs up first has had enough.
                tokio::io::copy_bidirectional(&mut stream, &mut target).await.ok();
            });
        }
    });
    port
}

#[tokio::test]
async fn a_proxy_is_told_vetted_addresses() {
    tokio::task::LocalSet::new()
        .run_until(async {
            let (receiver, asked) = (Receiver::start(), Arc::default());
            let port = proxy(Arc::clone(&asked)).await;
            let through = SecretString::new(format!("http://u:p%40@127.0.0.1:{port}"));
            let with = |settings| Egress { proxy: Some(through.clone()), ..settings };
            let client = Client::with_roots(&with(settings()), RootCertStore::empty()).unwrap();
            let own = receiver.addr().port();
            assert_eq!(response(post(&client, &format!("http://localhost:{own}/")).await).status, 200);
            {
                let asked = asked.lock().unwrap();
                assert_eq!(asked.len(), 1);
                assert!(asked[0].starts_with(&format!("CONNECT 127.0.0.1:{own} HTTP/1.1\r\n")), "{asked:?}");
                assert!(
                    asked[0].to_ascii_lowercase().contains("proxy-authorization: basic dtpwqa=="),
                    "{asked:?}"
                );
            }
            // The proxy could go anywhere; that is not for it to decide.
            let strict = with(Egress { allow_http: true, ..Egress::default() });
            let strict = Client::with_roots(&strict, RootCertStore::empty()).unwrap();
            assert_eq!(kind(&post(&strict, &receiver.url("/")).await), FailureKind::Forbidden);
            assert_eq!((asked.lock().unwrap().len(), receiver.seen(|seen| seen.total())), (1, 1));
        })
        .await;
}
