use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::*;

/// Takes as long as somebody wants it to, like a client whose cluster hangs.
struct Hanging(mpsc::Receiver<()>, Arc<AtomicBool>);

impl Drop for Hanging {
    fn drop(&mut self) {
        let _free = self.0.recv();
        self.1.store(true, Ordering::Release);
    }
}

#[test]
fn what_hangs_is_not_waited_for() {
    let (free, hanging) = mpsc::channel();
    let ended = Arc::<AtomicBool>::default();
    let client = Hanging(hanging, ended.clone());
    within(Duration::from_millis(50), "a client", move || drop(client));
    assert!(!ended.load(Ordering::Acquire));
    drop(free);
}

#[test]
fn what_ends_is_waited_for() {
    let ended = Arc::<AtomicBool>::default();
    let told = ended.clone();
    within(Duration::from_secs(60), "a client", move || told.store(true, Ordering::Release));
    assert!(ended.load(Ordering::Acquire));
}

#[test]
fn what_stands_aside_holds_up_nobody_who_drops_it() {
    let (free, hanging) = mpsc::channel();
    let ended = Arc::<AtomicBool>::default();
    drop(Aside::new(Hanging(hanging, ended.clone())));
    assert!(!ended.load(Ordering::Acquire));
    drop(free);
    while !ended.load(Ordering::Acquire) {
        thread::yield_now();
    }
}
