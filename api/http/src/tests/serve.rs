use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::oneshot;

use super::harness::{Harness, Mood};
use crate::{HEAD_BYTES_MAX, IpNet, LimitOptions, ServeOptions, serve};

/// Sends `request` as it is and reads until the server closes.
async fn exchange(to: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(to).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn requests_in_progress_are_answered_before_the_end() {
    let harness = Harness::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let shutdown = async { stopped.await.unwrap_or_default() };
    let serving = tokio::spawn(serve(harness.api.clone(), listener, ServeOptions::default(), shutdown));

    let body = r#"{"event":"x","userId":"ann"}"#;
    let head = format!(
        "POST /v1/track HTTP/1.1\r\nHost: x\r\nAuthorization: Basic d2s6\r\nContent-Length: {}\r\n",
        body.len()
    );
    let answer = exchange(address, &format!("{head}Connection: close\r\n\r\n{body}")).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with(r#"{"success":true}"#), "{answer}");

    // A request whose body is still on its way when the shutdown begins.
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(format!("{head}Expect: 100-continue\r\n\r\n").as_bytes()).await.unwrap();
    let mut go_on = [0; 25];
    stream.read_exact(&mut go_on).await.unwrap();
    assert_eq!(&go_on, b"HTTP/1.1 100 Continue\r\n\r\n");
    stop.send(()).unwrap();
    stream.write_all(body.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    serving.await.unwrap();
    assert!(TcpStream::connect(address).await.is_err(), "nobody listens any more");
}

#[tokio::test]
async fn the_end_does_not_wait_for_what_never_ends() {
    let harness = Harness::new();
    *harness.process.mood.lock().unwrap() = Mood::Stuck;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let options = ServeOptions { grace: std::time::Duration::ZERO, ..ServeOptions::default() };
    let shutdown = async { stopped.await.unwrap_or_default() };
    let serving = tokio::spawn(serve(harness.api.clone(), listener, options, shutdown));
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(b"GET /v1/status HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    stop.send(()).unwrap();
    serving.await.unwrap();
}

/// A server for as long as the test runs.
async fn served(harness: &Harness, places: usize) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let options = ServeOptions::for_connections(places);
    tokio::spawn(serve(harness.api.clone(), listener, options, std::future::pending()));
    address
}

/// A connection from one of the loopback's addresses.
async fn from(last: u8, to: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::from(([127, 0, 0, last], 0))).unwrap();
    socket.connect(to).await.unwrap()
}

/// What is still to come on a connection until the server closes it.
async fn rest(stream: &mut TcpStream) -> String {
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

const ALIVE: &[u8] = b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";

#[tokio::test]
async fn silent_connections_keep_nobody_out() {
    let harness = Harness::new();
    let address = served(&harness, 8).await;
    let mut silent = Vec::new();
    for last in 1..=40 {
        let mut stream = from(last, address).await;
        stream.write_all(b"GET /healthz HT").await.unwrap();
        silent.push(stream);
    }
    let mut healthy = from(50, address).await;
    healthy.write_all(ALIVE).await.unwrap();
    assert!(rest(&mut healthy).await.starts_with("HTTP/1.1 200 OK"));
    // Those that came first went first, and the last are still welcome to go on.
    assert_eq!(silent[0].read(&mut [0; 1]).await.unwrap_or(0), 0);
    let last = silent.last_mut().unwrap();
    last.write_all(b"TP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.unwrap();
    assert!(rest(last).await.starts_with("HTTP/1.1 200 OK"));
}

#[tokio::test]
async fn who_finds_every_place_in_use_is_told_so_at_once() {
    let harness = Harness::new();
    *harness.process.mood.lock().unwrap() = Mood::Stuck;
    let address = served(&harness, 4).await;
    let mut busy = Vec::new();
    for last in 1..=4 {
        let mut stream = from(last, address).await;
        stream.write_all(b"GET /v1/status HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        busy.push(stream);
    }
    // Nothing tells that the server has read those heads; whoever comes before that finds a place, and asks again.
    let answer = loop {
        let mut late = from(9, address).await;
        late.write_all(ALIVE).await.unwrap();
        let answer = rest(&mut late).await;
        if answer.starts_with("HTTP/1.1 503 Service Unavailable\r\n") {
            break answer;
        }
        assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
        tokio::task::yield_now().await;
    };
    assert!(answer.contains("retry-after: 1\r\n") && answer.contains(r#""code":"overloaded""#), "{answer}");
    let body = answer.split_once("\r\n\r\n").unwrap().1;
    assert!(answer.contains(&format!("content-length: {}\r\n", body.len())), "{answer}");
}

#[tokio::test]
async fn one_address_cannot_have_every_place_and_a_trusted_proxy_can() {
    let stuck = b"GET /v1/status HTTP/1.1\r\nHost: x\r\n\r\n";
    for (is_proxy, expected) in [(false, "HTTP/1.1 503"), (true, "HTTP/1.1 200")] {
        let proxies: Vec<IpNet> = if is_proxy { vec!["127.0.0.1/32".parse().unwrap()] } else { Vec::new() };
        let harness = Harness::with_limits(LimitOptions { trusted_proxies: proxies, ..LimitOptions::default() });
        *harness.process.mood.lock().unwrap() = Mood::Stuck;
        let address = served(&harness, 40).await;
        let mut busy = Vec::new();
        for _ in 0..10 {
            let mut stream = from(1, address).await;
            stream.write_all(stuck).await.unwrap();
            busy.push(stream);
        }
        let mut answer = String::new();
        // As above; a proxy is answered 200 each time.
        for _ in 0..1_000 {
            let mut more = from(1, address).await;
            more.write_all(ALIVE).await.unwrap();
            answer = rest(&mut more).await;
            if answer.starts_with("HTTP/1.1 503") {
                break;
            }
            tokio::task::yield_now().await;
        }
        assert!(answer.starts_with(expected), "{answer}");
        let mut another = from(2, address).await;
        another.write_all(ALIVE).await.unwrap();
        assert!(rest(&mut another).await.starts_with("HTTP/1.1 200"), "the others have theirs");
    }
}

#[tokio::test(start_paused = true)]
async fn a_head_that_trickles_is_not_waited_for() {
    let harness = Harness::new();
    let address = served(&harness, 8).await;
    let mut slow = from(1, address).await;
    let mut sent = 0;
    for byte in b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n" {
        if slow.write_all(&[*byte]).await.is_err() {
            break;
        }
        sent += 1;
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert!((5..20).contains(&sent), "closed after {sent} bytes, one a second");
}

#[tokio::test]
async fn a_head_that_is_too_large_is_refused() {
    let harness = Harness::new();
    let address = served(&harness, 8).await;
    let mut stream = from(1, address).await;
    let head = format!("GET /healthz HTTP/1.1\r\nHost: x\r\nX: {}", "x".repeat(8 * HEAD_BYTES_MAX));
    // The server may close while this is still being sent.
    let _refused_early = stream.write_all(head.as_bytes()).await;
    let mut answer = Vec::new();
    let _reset = stream.read_to_end(&mut answer).await;
    let answer = String::from_utf8_lossy(&answer);
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431"), "{answer}");
    let mut healthy = from(1, address).await;
    healthy.write_all(ALIVE).await.unwrap();
    assert!(rest(&mut healthy).await.starts_with("HTTP/1.1 200 OK"));
}

#[tokio::test]
async fn a_client_that_asks_first_is_refused_before_it_sends_its_body() {
    let limits = LimitOptions { address_requests: "1/1".parse().ok(), ..LimitOptions::default() };
    let harness = Harness::with_limits(limits);
    let address = served(&harness, 8).await;
    let head = "POST /v1/track HTTP/1.1\r\nHost: x\r\nAuthorization: Basic d2s6\r\nContent-Length: 50000\r\n";
    let mut first = from(1, address).await;
    first.write_all(ALIVE).await.unwrap();
    assert!(rest(&mut first).await.starts_with("HTTP/1.1 200 OK"), "a probe costs nothing");
    let mut first = from(1, address).await;
    first.write_all(format!("{head}Expect: 100-continue\r\n\r\n").as_bytes()).await.unwrap();
    let mut go_on = [0; 12];
    first.read_exact(&mut go_on).await.unwrap();
    assert_eq!(&go_on, b"HTTP/1.1 100");
    let mut second = from(1, address).await;
    second.write_all(format!("{head}Expect: 100-continue\r\n\r\n").as_bytes()).await.unwrap();
    second.read_exact(&mut go_on).await.unwrap();
    assert_eq!(&go_on, b"HTTP/1.1 429", "and no 100 before it");
}

#[tokio::test]
async fn a_refused_client_that_sends_first_reads_its_answer() {
    let limits = LimitOptions { address_requests: "1/1".parse().ok(), ..LimitOptions::default() };
    let harness = Harness::with_limits(limits);
    let address = served(&harness, 8).await;
    let body = "x".repeat(400_000);
    let request = format!(
        "POST /v1/track HTTP/1.1\r\nHost: x\r\nAuthorization: Basic d2s6\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut stream = from(1, address).await;
    // The first is refused for its size, the next for coming too soon, on the same connection.
    for expected in ["HTTP/1.1 400", "HTTP/1.1 429", "HTTP/1.1 429"] {
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = vec![0; 12];
        stream.read_exact(&mut answer).await.unwrap();
        assert_eq!(String::from_utf8_lossy(&answer), expected);
        let mut byte = [0; 1];
        while !answer.ends_with(b"}") {
            stream.read_exact(&mut byte).await.unwrap();
            answer.push(byte[0]);
        }
    }
}
