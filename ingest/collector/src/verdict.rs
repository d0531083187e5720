//! What became of each event of a request, for clients that ask one by one.
//!
//! There is no verdict "send it again": a request is appended whole or not at all, so what the log could not take is refused
//! as a whole request. A client may take an event of which it hears nothing for accepted, so one that could not be
//! named in the answer (it has no id) would be lost if it were told in the answer to repeat it.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use millrace_events::check_id;

use crate::Accepted;
use crate::json::pick;
use crate::refusal::{Reason, Rejection};

/// What became of one event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is in the log.
    Kept,
    /// It is in the log, and its sender should know something about it.
    Noted(Cow<'static, str>),
    /// It is in `dead-letters`, and sending it again as it is would lead there again.
    Refused(Reason, Cow<'static, str>),
}

/// A request that is durable in the log, event by event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Judged {
    /// How many of its events were accepted.
    pub accepted: Accepted,
    /// What became of each. An event is named by its id; one without a valid id by `#` and its place in the request, from 0.
    pub verdicts: BTreeMap<String, Verdict>,
}

/// Several events of one request that have the same id were all accepted.
const SAME_ID: &str = "several events of this request have this id: of those of one actor the first is counted";

/// The verdicts on the events of one request, in their order.
#[derive(Debug)]
pub(crate) struct Verdicts {
    /// What the protocol names the id of an event.
    id_field: &'static str,
    given: BTreeMap<String, Verdict>,
    /// The place of the next event.
    place: usize,
}

impl Verdicts {
    pub(crate) fn new(id_field: &'static str) -> Self {
        Self { id_field, given: BTreeMap::new(), place: 0 }
    }

    /// The next event was accepted; `id` is empty when it has none.
    pub(crate) fn kept(&mut self, id: &str) {
        self.give(Some(id).filter(|id| !id.is_empty()).map(str::to_owned), Verdict::Kept);
    }

    /// The next event was not.
    pub(crate) fn refused(&mut self, event: &str, rejection: &Rejection) {
        let id = pick(event, &[self.id_field]).ok().and_then(|[id]| id?.id());
        let id = id.filter(|id| check_id(id).is_ok()).map(Cow::into_owned);
        self.give(id, Verdict::Refused(rejection.reason, rejection.detail.clone()));
    }

    pub(crate) fn into_inner(self) -> BTreeMap<String, Verdict> {
        self.given
    }

    fn give(&mut self, id: Option<String>, verdict: Verdict) {
        let name = id.unwrap_or_else(|| format!("#{}", self.place));
        self.place += 1;
        match self.given.entry(name) {
            Entry::Vacant(vacant) => drop(vacant.insert(verdict)),
            // A client looks its events up by id, so each of several must hear the worst that is true of one.
            Entry::Occupied(mut given) => match (given.get(), verdict) {
                (Verdict::Refused(..), _) => {}
                (_, refused @ Verdict::Refused(..)) => drop(given.insert(refused)),
                _ => drop(given.insert(Verdict::Noted(Cow::Borrowed(SAME_ID)))),
            },
        }
    }
}

#[cfg(test)]
mod tests;
