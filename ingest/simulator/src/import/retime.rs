//! A recording as if it were live: moved to now, and faster or slower.

use millrace_events::Micros;

use crate::call::Call;

/// Moves times so that the first call is sent at a given moment, and divides the distances from it by a speed. Everything that a
/// call says about time moves together (when it happened, when the device says it sent, when it is due), so what was late or
/// misdated stays so, by a distance that is divided as well.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Retime {
    speed: f64,
    start_us: Micros,
    first_us: Option<Micros>,
}

impl Retime {
    /// `speed` times as fast as recorded, above 0, from `start_us` on.
    pub fn new(speed: f64, start_us: Micros) -> Self {
        Self { speed, start_us, first_us: None }
    }

    /// The moment at which the first call is due.
    pub fn start_us(&self) -> Micros {
        self.start_us
    }

    /// Takes the moment at which a call is due; that of the first decides what is now.
    pub(super) fn note(&mut self, due_us: Micros) {
        self.first_us.get_or_insert(due_us);
    }

    /// Where a recorded moment comes to lie. Before any call was noted it is the start.
    pub(super) fn at(&self, time_us: Micros) -> Micros {
        let first_us = self.first_us.unwrap_or(time_us);
        // Exact to a microsecond for two centuries; a float cast saturates.
        let distance = time_us.saturating_sub(first_us) as f64 / self.speed;
        self.start_us.saturating_add(distance.round() as Micros)
    }

    /// `call` as if it were live.
    pub fn call(&mut self, mut call: Call) -> Call {
        self.note(call.due_us);
        call.time_us = self.at(call.time_us);
        call.sent_at_us = call.sent_at_us.map(|sent_at_us| self.at(sent_at_us));
        call.due_us = self.at(call.due_us);
        call
    }
}
