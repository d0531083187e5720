use std::net::IpAddr;
use std::time::Duration;

use axum::body::Body;
use futures::FutureExt as _;

use super::{Answered, Connections, HEAD_TIMEOUT, IDLE_TIMEOUT, Place, STALL_TIMEOUT};

fn ip(last: u8) -> IpAddr {
    IpAddr::from([192, 0, 2, last])
}

async fn later() {
    tokio::time::sleep(Duration::from_millis(10)).await;
}

fn is_closed(place: &Place) -> bool {
    place.link().closed().now_or_never().is_some()
}

/// One after another, so that each has waited longer than the next.
async fn enter(all: &std::sync::Arc<Connections>, from: &[u8]) -> Vec<Place> {
    let mut places = Vec::new();
    for last in from {
        places.push(all.enter(ip(*last), true).unwrap());
        later().await;
    }
    places
}

/// Its request was answered.
fn answer(place: &Place) {
    assert!(place.link().begin());
    drop(Answered::new(Body::empty(), place.link().clone()));
}

#[tokio::test(start_paused = true)]
async fn who_comes_when_all_is_taken_gets_the_place_of_who_has_waited_longest() {
    let all = Connections::new(3, 3);
    let places = enter(&all, &[1, 2, 3]).await;
    let [first, second, third] = &places[..] else { panic!() };
    assert!(first.link().begin(), "the first has a request in progress");
    let newcomer = all.enter(ip(4), true).unwrap();
    assert!(!is_closed(first) && is_closed(second) && !is_closed(third) && !is_closed(&newcomer));
    assert!(!second.link().begin(), "a request that is complete only now is not begun");
    drop(places);
    assert!(enter(&all, &[5, 6]).await.iter().all(|place| !is_closed(place)), "those places are free again");
    assert!(!is_closed(&newcomer));
}

#[tokio::test(start_paused = true)]
async fn who_owes_a_head_goes_before_who_was_answered() {
    let all = Connections::new(2, 2);
    let places = enter(&all, &[1, 2]).await;
    answer(&places[0]);
    later().await;
    let newcomer = all.enter(ip(3), true).unwrap();
    assert!(!is_closed(&places[0]) && is_closed(&places[1]));
    answer(&newcomer);
    let _another = all.enter(ip(4), true).unwrap();
    assert!(is_closed(&places[0]), "when all were answered, the one that is silent longest goes");
}

#[tokio::test(start_paused = true)]
async fn nobody_with_a_request_in_progress_goes() {
    let all = Connections::new(2, 2);
    let places = enter(&all, &[1, 2]).await;
    assert!(places.iter().all(|place| place.link().begin()));
    assert!(all.enter(ip(3), true).is_none());
    assert!(!places.iter().any(is_closed));
    drop(Answered::new(Body::empty(), places[1].link().clone()));
    assert!(all.enter(ip(3), true).is_some() && is_closed(&places[1]));
}

#[tokio::test(start_paused = true)]
async fn one_address_has_its_share_and_makes_room_for_itself() {
    let all = Connections::new(10, 2);
    let others = enter(&all, &[1, 1, 2]).await;
    let mine = all.enter(ip(1), true).unwrap();
    assert!(is_closed(&others[0]) && !is_closed(&others[1]) && !is_closed(&others[2]));
    assert!(mine.link().begin() && others[1].link().begin());
    assert!(all.enter(ip(1), true).is_none(), "its share is in use");
    assert!(all.enter(ip(2), true).is_some());
    let proxied: Vec<_> = (0..5).map(|_| all.enter(ip(9), false).unwrap()).collect();
    assert!(!proxied.iter().any(is_closed), "a proxy's address is that of many");
    let block = |n: u16| IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, n]);
    let all = Connections::new(10, 2);
    let same: Vec<_> = (0..3).map(|n| all.enter(block(n), true).unwrap()).collect();
    assert_eq!(same.iter().filter(|place| is_closed(place)).count(), 1, "a /64 is one address");
}

#[tokio::test(start_paused = true)]
async fn each_part_has_its_time() {
    let all = Connections::new(10, 10);
    let short = |time: Duration| time.checked_sub(Duration::from_millis(100)).unwrap();
    let after = async |wait: Duration| {
        tokio::time::sleep(wait).await;
        all.sweep();
    };
    let place = || all.enter(ip(1), true).unwrap();

    let silent = place();
    after(short(HEAD_TIMEOUT)).await;
    assert!(!is_closed(&silent));
    silent.link().received();
    after(Duration::from_millis(200)).await;
    assert!(is_closed(&silent), "bytes of a head give it no more time");

    let idle = place();
    answer(&idle);
    after(short(IDLE_TIMEOUT)).await;
    assert!(!is_closed(&idle));
    idle.link().received();
    after(short(HEAD_TIMEOUT)).await;
    assert!(!is_closed(&idle), "another head began, and has its own time");
    after(Duration::from_millis(200)).await;
    assert!(is_closed(&idle));

    let idle = place();
    answer(&idle);
    after(IDLE_TIMEOUT).await;
    assert!(is_closed(&idle));

    let busy = place();
    assert!(busy.link().begin());
    after(10 * IDLE_TIMEOUT).await;
    assert!(!is_closed(&busy), "an answer has a time of its own, elsewhere");
    busy.link().sent(false);
    after(short(STALL_TIMEOUT)).await;
    busy.link().sent(true);
    busy.link().sent(false);
    after(short(STALL_TIMEOUT)).await;
    assert!(!is_closed(&busy), "it reads, if slowly");
    busy.link().sent(false);
    after(Duration::from_millis(200)).await;
    assert!(is_closed(&busy));
}
