//! Who may send how much is decided by the edge, which has the time; the collector asks when it knows who sends.

use crate::refusal::Refusal;

/// Lets requests in or refuses them.
pub trait Gate: Sync {
    /// Asked as soon as a source is known, before its body is unpacked, when the source is in the header.
    ///
    /// # Errors
    /// When the source would be refused whatever it brings.
    fn knock(&self, source: &str) -> Result<(), Refusal>;

    /// Asked once, for all events of a request, those that go to the dead letters included, before any is appended.
    ///
    /// # Errors
    /// When nothing of the request may be appended now.
    fn admit(&self, source: &str, events: u32) -> Result<(), Refusal>;
}

/// Lets everybody in.
pub(crate) struct Open;

impl Gate for Open {
    fn knock(&self, _: &str) -> Result<(), Refusal> {
        Ok(())
    }

    fn admit(&self, _: &str, _: u32) -> Result<(), Refusal> {
        Ok(())
    }
}
