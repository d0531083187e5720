use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Builder;

use super::*;

const LONG: Duration = Duration::from_secs(60);

/// Something that is answered by another task, so that waiting for it needs a thread that runs.
async fn answered(bridge: &Bridge) -> u32 {
    let (send, receive) = tokio::sync::oneshot::channel();
    bridge.handle().spawn(async move {
        tokio::task::yield_now().await;
        send.send(7).unwrap();
    });
    receive.await.unwrap()
}

fn wait_for_it(bridge: &Arc<Bridge>) {
    let its = bridge.clone();
    assert_eq!(bridge.wait(LONG, async move { answered(&its).await }).unwrap().unwrap(), 7);
    assert_eq!(bridge.wait(LONG, async { 8 }).unwrap().unwrap(), 8);
}

#[test]
fn any_thread_may_wait() {
    let bridge = Arc::new(Bridge::new(1).unwrap());
    wait_for_it(&bridge);
    Builder::new_current_thread().build().unwrap().block_on(async { wait_for_it(&bridge) });
    let runtime = Builder::new_multi_thread().worker_threads(1).build().unwrap();
    runtime.block_on(async { wait_for_it(&bridge) });
    let its = bridge.clone();
    runtime.block_on(runtime.spawn(async move { wait_for_it(&its) })).unwrap();
    let its = bridge.clone();
    runtime.block_on(runtime.spawn_blocking(move || wait_for_it(&its))).unwrap();
}

#[test]
fn other_tasks_go_on_while_one_waits() {
    let bridge = Arc::new(Bridge::new(1).unwrap());
    let runtime = Builder::new_multi_thread().worker_threads(1).build().unwrap();
    let (send, receive) = tokio::sync::oneshot::channel();
    let waits = runtime.spawn(async move { bridge.wait(LONG, receive).unwrap().unwrap() });
    // Only a task of the runtime whose one thread waits can end the waiting.
    let ends = runtime.spawn(async move { send.send(9).unwrap() });
    runtime.block_on(ends).unwrap();
    assert_eq!(runtime.block_on(waits).unwrap(), Ok(9));
}

#[test]
fn waiting_ends_in_time() {
    let bridge = Bridge::new(1).unwrap();
    let answer = bridge.wait(Duration::from_millis(10), std::future::pending::<()>());
    assert!(answer.unwrap().is_err());
}

#[test]
fn a_panic_ends_the_waiting() {
    let bridge = Bridge::new(1).unwrap();
    let answer = bridge.wait(LONG, async {
        tokio::task::yield_now().await;
        if true {
            panic!("as a defect would");
        }
    });
    assert!(answer.is_err());
}

#[tokio::test]
async fn it_may_end_inside_a_runtime() {
    drop(Bridge::new(2).unwrap());
}

#[test]
fn it_may_end_on_a_thread_of_its_own() {
    let bridge = Arc::new(Bridge::new(1).unwrap());
    let (its, handle) = (bridge.clone(), bridge.handle());
    let (send, receive) = std::sync::mpsc::channel();
    handle.spawn(async move {
        tokio::task::yield_now().await;
        drop(its);
        send.send(()).unwrap();
    });
    drop(bridge);
    // Whoever drops it last: neither blocks nor panics.
    receive.recv_timeout(LONG).unwrap();
}
