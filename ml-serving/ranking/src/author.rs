//! An author's own posts, newest first.

use millrace_events::LogTime;
use millrace_feature_store::ListItem;
use millrace_feature_store::views::{self, PostRecord};

use crate::cursor::{decode_author, encode_author};
use crate::posts::check;
use crate::{LIMIT_MAX, Ranker, Result};

/// How much of the list is read at a time, at least.
const READ_ITEMS_MIN: usize = 32;
/// How often one page reads on past deleted posts, before it is answered as it is, with a cursor.
const READS_MAX: usize = 32;

/// Asks for an author's posts.
#[derive(Clone, Debug)]
pub struct AuthorQuery {
    /// Whose.
    pub author: String,
    /// How many items, at most [`LIMIT_MAX`].
    pub limit: usize,
    /// [`AuthorPage::next_cursor`] of the page before.
    pub cursor: Option<String>,
}

/// A page of an author's posts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthorPage {
    /// Newest first.
    pub items: Vec<AuthorItem>,
    /// Where to go on; `None` at the end.
    pub next_cursor: Option<String>,
    /// The log time up to which this answer is complete; `None` before anything was applied.
    pub as_of: Option<LogTime>,
}

/// One post of an author.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthorItem {
    /// The post.
    pub post_id: String,
    /// Who wrote it.
    pub author_id: String,
    /// Event time of its creation, microseconds.
    pub created_at_us: i64,
}

impl Ranker {
    /// A page of `author`'s posts, without the deleted ones.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Invalid`] for an impossible author or a cursor that is not this author's;
    /// [`crate::ErrorKind::Retry`] when the online store cannot be read now.
    pub async fn author(&self, query: AuthorQuery) -> Result<AuthorPage> {
        check("author_id", &query.author)?;
        let limit = query.limit.clamp(1, LIMIT_MAX);
        let mut after = query.cursor.as_deref().map(|c| decode_author(&query.author, c)).transpose()?;
        let as_of = self.as_of().await?;
        let list = views::list(views::AUTHOR_POSTS, &query.author);

        // One more than asked, to know whether there is more.
        let read_items = READ_ITEMS_MIN.max(limit + 1);
        let mut items = Vec::with_capacity(limit);
        for _ in 0..READS_MAX {
            let page = self.store.page(&list, after.as_ref(), read_items).await?;
            let is_last = page.len() < read_items;
            for (listed, post) in self.with_posts(page).await? {
                let shown = post.and_then(|post| shown(&query.author, &listed, post));
                if shown.is_some() && items.len() == limit {
                    let next_cursor = after.map(|last| encode_author(&query.author, &last));
                    return Ok(AuthorPage { items, next_cursor, as_of });
                }
                items.extend(shown);
                after = Some(listed);
            }
            if is_last {
                return Ok(AuthorPage { items, next_cursor: None, as_of });
            }
        }
        let next_cursor = after.map(|last| encode_author(&query.author, &last));
        Ok(AuthorPage { items, next_cursor, as_of })
    }

    async fn with_posts(&self, page: Vec<ListItem>) -> Result<Vec<(ListItem, Option<PostRecord>)>> {
        let ids = page.iter().map(|listed| str::from_utf8(&listed.member).unwrap_or_default());
        let keys: Vec<_> = ids.map(|id| views::record(views::POST, id)).collect();
        let posts = self.store.get(&keys).await?;
        let mut found = Vec::with_capacity(page.len());
        for (listed, post) in page.into_iter().zip(posts) {
            found.push((listed, post.map(|value| views::decode("post", value)).transpose()?));
        }
        Ok(found)
    }
}

/// The post as it is shown; not when it is deleted, or when its id was taken and somebody else wrote it.
fn shown(author: &str, listed: &ListItem, post: PostRecord) -> Option<AuthorItem> {
    if post.deleted || post.author_id != author {
        return None;
    }
    let post_id = String::from_utf8(listed.member.to_vec()).ok()?;
    Some(AuthorItem { post_id, author_id: post.author_id, created_at_us: post.created_at_us })
}
