//! What a person who sets a catalog up must know.

/// How much a [`Finding`] matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// As it should be.
    Fine,
    /// It works; something will hurt one day.
    Warning,
    /// It does not work, or loses data.
    Fault,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How much it matters.
    pub level: Level,
    /// What is so.
    pub what: String,
    /// What to do about it; none when it is as it should be.
    pub cure: Option<String>,
}

impl Finding {
    pub(crate) fn fine(what: impl Into<String>) -> Self {
        Self { level: Level::Fine, what: what.into(), cure: None }
    }

    pub(crate) fn bad(level: Level, what: impl Into<String>, cure: impl Into<String>) -> Self {
        Self { level, what: what.into(), cure: Some(cure.into()) }
    }
}
