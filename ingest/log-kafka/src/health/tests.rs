use std::sync::mpsc;

use super::*;

/// A cluster whose answers the test gives one by one, after each of which the test may look.
struct Asked {
    health: Arc<Health>,
    questions: mpsc::Receiver<mpsc::Sender<bool>>,
    thread: JoinHandle<()>,
}

impl Asked {
    fn new() -> Self {
        let health = Arc::<Health>::default();
        let (ask, questions) = mpsc::channel();
        let thread = health.watch(move || {
            let (answer, answered) = mpsc::channel();
            ask.send(answer).is_ok() && answered.recv().unwrap_or(false)
        });
        Self { health, questions, thread: thread.expect("a test machine has threads") }
    }

    fn answer(&self, well: bool) {
        self.questions.recv().expect("the thread asks").send(well).expect("it waits for the answer");
    }

    fn until(&self, well: bool) {
        while self.health.is_well() != well {
            thread::yield_now();
        }
    }

    fn end(self) {
        self.health.close();
        drop(self.questions);
        self.thread.join().expect("it should not panic");
    }
}

#[test]
fn an_append_that_stalls_is_unhealthy_until_it_ends() {
    let health = Health::default();
    let [first, second] = [health.stalled(), health.stalled()];
    assert!(!health.is_well());
    drop(first);
    assert!(!health.is_well());
    drop(second);
    assert!(health.is_well());
}

#[test]
fn a_failed_append_is_unhealthy_until_the_cluster_answers() {
    let asked = Asked::new();
    asked.health.failed();
    assert!(!asked.health.is_well());
    asked.answer(false);
    asked.answer(false);
    assert!(!asked.health.is_well());
    asked.answer(true);
    asked.until(true);
    asked.end();
}

#[test]
fn a_failed_append_is_unhealthy_until_a_record_is_acknowledged() {
    let health = Health::default();
    health.failed();
    assert!(!health.is_well());
    health.delivered();
    assert!(health.is_well());
}

#[test]
fn a_suspicion_alone_is_not_unhealthy() {
    let asked = Asked::new();
    asked.health.suspect();
    assert!(asked.health.is_well());
    asked.answer(true);
    asked.health.suspect();
    asked.answer(false);
    asked.until(false);
    asked.answer(true);
    asked.until(true);
    asked.end();
}

#[test]
fn what_fails_while_the_cluster_answers_is_looked_into_again() {
    let asked = Asked::new();
    asked.health.suspect();
    let question = asked.questions.recv().expect("the thread asks");
    asked.health.failed();
    question.send(true).expect("it waits for the answer");
    let again = asked.questions.recv().expect("it asks again");
    assert!(!asked.health.is_well());
    again.send(true).expect("it waits for the answer");
    asked.until(true);
    asked.end();
}
