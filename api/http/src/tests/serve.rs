use std::net::SocketAddr;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

use super::harness::{Harness, Mood};
use crate::{ServeOptions, serve};

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
