//! The viewer: whom they follow, block and mute, and who blocks them.

use millrace_feature_store::views::{self, BLOCKED, BLOCKED_BY, FOLLOWING, MUTED};
use millrace_feature_store::{ListItem, OnlineStore};
use rustc_hash::FxHashSet;

use crate::{AUTHORS_MAX, RELATIONS_MAX, Result};

/// How many members of a relation are read at a time.
const RELATIONS_PAGE: usize = 2_000;

/// What is known about the one who is being served.
#[derive(Debug, Default)]
pub(crate) struct Viewer {
    pub(crate) id: String,
    /// Most recently followed first, at most [`AUTHORS_MAX`].
    pub(crate) following: Vec<String>,
    pub(crate) blocked: FxHashSet<String>,
    pub(crate) blocked_by: FxHashSet<String>,
    pub(crate) muted: FxHashSet<String>,
}

/// Reads the viewer `id`.
pub(crate) async fn read_viewer(store: &dyn OnlineStore, id: &str) -> Result<Viewer> {
    let views = [FOLLOWING, BLOCKED, BLOCKED_BY, MUTED];
    let lists = views.map(|view| views::list(view, id));
    let heads = store.heads(&lists, RELATIONS_PAGE.max(AUTHORS_MAX)).await?;
    let mut heads = heads.into_iter();

    let mut viewer = Viewer { id: id.to_owned(), ..Viewer::default() };
    let following = heads.next().unwrap_or_default();
    viewer.following = following.into_iter().take(AUTHORS_MAX).filter_map(member_id).collect();
    let relations = [&mut viewer.blocked, &mut viewer.blocked_by, &mut viewer.muted];
    for ((list, head), members) in lists[1..].iter().zip(heads).zip(relations) {
        let mut page = head;
        while let Some(last) = page.last().cloned() {
            let is_whole = page.len() < RELATIONS_PAGE;
            members.extend(page.into_iter().filter_map(member_id));
            if is_whole || members.len() >= RELATIONS_MAX {
                break;
            }
            page = store.page(list, Some(&last), RELATIONS_PAGE).await?;
        }
    }
    Ok(viewer)
}

fn member_id(item: ListItem) -> Option<String> {
    String::from_utf8(item.member.into()).ok()
}
