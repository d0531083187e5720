//! Where candidates come from. A source names posts and nothing more: whether one may be shown is for the filters.

pub(crate) mod followed;

/// A post that a source proposes.
#[derive(Clone, Debug)]
pub(crate) struct Candidate {
    pub(crate) post_id: String,
    /// Whose list it stands in; the post's own record decides whether that is its author.
    pub(crate) author_id: String,
    /// Its score in that list: the time of creation, microseconds.
    pub(crate) listed_us: i64,
    /// The source.
    pub(crate) reason: &'static str,
}
