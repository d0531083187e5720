//! What came in by source, counted once however often a worker restarts. Runs inside stage 1's pass, which sees every action.

use millrace_events::LogTime;
use millrace_feature_store::views::SourceCounts;
use prost::Message;

use super::tables;
use crate::Result;
use crate::state::{State, StateKey, StateValue};

/// How many sources are counted by name in one partition; what others send is counted together, under the empty name.
const SOURCES_MAX: usize = 256;

/// The counts of a source, to change.
pub(super) fn counts<'s>(source: &str, time: LogTime, state: &'s mut State) -> Result<&'s mut SourceCounts> {
    let counts = state.entry::<Sources>(&StateKey::new(tables::SOURCES))?.of(source);
    counts.last_us = time.0;
    Ok(counts)
}

/// The counts of every source, by name.
pub(super) fn all(state: &mut State) -> Result<Vec<SourceCounts>> {
    Ok(state.get::<Sources>(&StateKey::new(tables::SOURCES))?.map_or_else(Vec::new, |sources| sources.by_name.clone()))
}

/// In the order of names.
#[derive(Clone, PartialEq, Message)]
struct Sources {
    #[prost(message, repeated, tag = "1")]
    by_name: Vec<SourceCounts>,
}

impl Sources {
    fn of(&mut self, source: &str) -> &mut SourceCounts {
        let mut name = source;
        let mut found = self.find(name);
        if found.is_err() && self.by_name.len() >= SOURCES_MAX {
            name = "";
            found = self.find(name);
        }
        let at = found.unwrap_or_else(|at| {
            self.by_name.insert(at, SourceCounts { source: name.to_owned(), ..SourceCounts::default() });
            at
        });
        &mut self.by_name[at]
    }

    /// Where it stands, or would stand.
    fn find(&self, source: &str) -> std::result::Result<usize, usize> {
        self.by_name.binary_search_by(|of| of.source.as_str().cmp(source))
    }
}

impl StateValue for Sources {
    fn decode(bytes: &[u8]) -> Option<Self> {
        Message::decode(bytes).ok()
    }

    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.encode_to_vec());
    }

    fn weight(&self) -> usize {
        self.by_name.iter().map(|of| size_of::<SourceCounts>() + of.source.len()).sum()
    }
}

#[cfg(test)]
mod tests;
