//! What an answer consists of.

use millrace_events::{LogTime, ServedSlate};

/// A ranked list as it is served.
#[derive(Clone, Debug, PartialEq)]
pub struct Slate {
    /// Names the ranked list: a hash of the viewer, the clock and the whole order. The pages of one feed share it, so
    /// that (slate, position) names one served item.
    pub slate: String,
    /// For whom.
    pub viewer: String,
    /// Best first.
    pub items: Vec<SlateItem>,
    /// Where to go on; `None` at the end.
    pub next_cursor: Option<String>,
    /// Which model scored it.
    pub model: Model,
    /// The log time up to which this answer is complete; `None` before anything was applied.
    pub as_of: Option<LogTime>,
    /// What each source brought, in their order.
    pub sources: Vec<SourceReport>,
    /// How it came about, when asked for.
    pub explain: Option<Explain>,
    /// Everything that was ranked, when asked for and sampled: see [`crate::HomeQuery::record_rate`].
    pub record: Option<Box<ServedSlate>>,
}

/// One served post.
#[derive(Clone, Debug, PartialEq)]
pub struct SlateItem {
    /// Its place in the whole ranked list, from 0, going on over the pages.
    pub position: usize,
    /// The post.
    pub post_id: String,
    /// Who wrote it.
    pub author_id: String,
    /// The blended value that ordered the slate, 0 to 1. Later pages keep the one of the first.
    pub score: f64,
    /// The source that brought it.
    pub reason: &'static str,
}

/// What scored a slate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Model {
    /// Its name.
    pub name: &'static str,
    /// Changes with every change of the scores that it gives.
    pub version: &'static str,
}

/// The plain formula that ranks when no model is deployed.
pub const MODEL: Model = Model { name: "baseline", version: "2" };

/// How a slate came about.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Explain {
    /// Which candidates were removed, and why.
    pub filtered: Vec<Filtered>,
    /// The parts of each served item's score, on the first page. A later page keeps the order and has no parts.
    pub scores: Vec<ScoreParts>,
    /// What a reader should know, such as why the feed is empty.
    pub notes: Vec<String>,
}

/// What a source brought.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceReport {
    /// The source.
    pub name: &'static str,
    /// How many candidates.
    pub candidates: usize,
    /// How long it took, by the stopwatch of [`crate::RankerOptions`]. Microseconds.
    pub took_us: u64,
    /// Left out because it was not there when its share of the budget was over.
    pub late: bool,
    /// Left out because it could not be read.
    pub failed: bool,
}

/// A candidate that may not be shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filtered {
    /// The post.
    pub post_id: String,
    /// The filter that removed it.
    pub filter: &'static str,
    /// In words.
    pub why: &'static str,
}

/// The parts of one score.
#[derive(Clone, Debug, PartialEq)]
pub struct ScoreParts {
    /// The post.
    pub post_id: String,
    /// Its parts.
    pub parts: Parts,
}

/// What the score of a post is made of, each from 0 to 1.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Parts {
    /// How new it is.
    pub recency: f64,
    /// How much the viewer has reacted to its author lately.
    pub affinity: f64,
    /// How often those who see it react.
    pub engagement: f64,
    /// What being from its source multiplied the blended score with.
    pub source: f64,
    /// What author diversity multiplied the blended score with.
    pub diversity: f64,
}
