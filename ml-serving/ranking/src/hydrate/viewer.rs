//! The viewer: whom they follow, block and mute, and who blocks them, under whichever of their ids.

use bytes::Bytes;
use millrace_feature_store::views::{self, BLOCKED, BLOCKED_BY, FOLLOWING, MUTED, UNDONE};
use millrace_feature_store::{ListItem, OnlineStore};
use rustc_hash::{FxHashMap, FxHashSet};

use super::person::read_person;
use crate::{AUTHORS_MAX, RELATIONS_MAX, Result};

/// How many members of a relation are read at a time.
const RELATIONS_PAGE: usize = 2_000;

/// What is read of each id, in this order.
const VIEWS: [u8; 5] = [FOLLOWING, BLOCKED, BLOCKED_BY, MUTED, UNDONE];

/// What is known about the one who is being served.
#[derive(Debug, Default)]
pub(crate) struct Viewer {
    /// Every id of the person, the one that was asked for among them.
    pub(crate) ids: Vec<String>,
    /// Most recently followed first, at most [`AUTHORS_MAX`].
    pub(crate) following: Vec<String>,
    pub(crate) blocked: FxHashSet<String>,
    pub(crate) blocked_by: FxHashSet<String>,
    pub(crate) muted: FxHashSet<String>,
}

impl Viewer {
    /// True when `id` is one of theirs.
    pub(crate) fn is(&self, id: &str) -> bool {
        self.ids.iter().any(|own| own == id)
    }
}

/// Reads the viewer `id`.
pub(crate) async fn read_viewer(store: &dyn OnlineStore, id: &str) -> Result<Viewer> {
    let (person, mut kept) = read_person(store, id, &VIEWS, RELATIONS_PAGE.max(AUTHORS_MAX)).await?;
    let ids: Vec<String> = person.ids.into_iter().map(|id| id.id).collect();
    let mut heads: [Vec<Vec<ListItem>>; VIEWS.len()] = Default::default();
    for id in &ids {
        let mut of_id = kept.remove(id).unwrap_or_default().into_iter();
        heads.iter_mut().for_each(|heads| heads.push(of_id.next().unwrap_or_default()));
    }
    let [following, blocked, blocked_by, muted, undone] = heads;
    let undone = Undone::new(undone);

    let mut following = undone.unite(FOLLOWING, following);
    following.truncate(AUTHORS_MAX);
    let mut viewer =
        Viewer { ids, following: following.into_iter().filter_map(member_id).collect(), ..Viewer::default() };
    let relations = [
        (BLOCKED, blocked, &mut viewer.blocked),
        (BLOCKED_BY, blocked_by, &mut viewer.blocked_by),
        (MUTED, muted, &mut viewer.muted),
    ];
    for (view, heads, members) in relations {
        let whole = read_on(store, view, &viewer.ids, heads).await?;
        members.extend(undone.unite(view, whole).into_iter().filter_map(member_id));
    }
    Ok(viewer)
}

/// The lists of `ids` in `view` to their ends, of which the first pages are there; at most [`RELATIONS_MAX`] items of all.
async fn read_on(
    store: &dyn OnlineStore,
    view: u8,
    ids: &[String],
    mut lists: Vec<Vec<ListItem>>,
) -> Result<Vec<Vec<ListItem>>> {
    let mut total: usize = lists.iter().map(Vec::len).sum();
    for (id, items) in ids.iter().zip(&mut lists) {
        let (list, mut is_whole) = (views::list(view, id), items.len() < RELATIONS_PAGE);
        while !is_whole && total < RELATIONS_MAX {
            let page = store.page(&list, items.last(), RELATIONS_PAGE).await?;
            is_whole = page.len() < RELATIONS_PAGE;
            total += page.len();
            items.extend(page);
        }
    }
    Ok(lists)
}

/// What each id of a person took back: the edge, which of the ids, and when.
struct Undone(FxHashMap<Bytes, Vec<(usize, i64)>>);

impl Undone {
    fn new(heads: Vec<Vec<ListItem>>) -> Self {
        let mut undone: FxHashMap<Bytes, Vec<(usize, i64)>> = FxHashMap::default();
        // What an id took back itself, its own list says.
        let of_several = if heads.len() > 1 { heads } else { Vec::new() };
        for (nth, head) in of_several.into_iter().enumerate() {
            for item in head {
                undone.entry(item.member).or_default().push((nth, item.score));
            }
        }
        Self(undone)
    }

    /// The members of a relation that some id has and no other took back at that time or later, the latest first. Between the
    /// actions of one id the order of the log decides; there is none between ids, so time does.
    fn unite(&self, view: u8, mut lists: Vec<Vec<ListItem>>) -> Vec<ListItem> {
        if lists.len() == 1 {
            return lists.pop().unwrap_or_default();
        }
        let mut latest: FxHashMap<Bytes, i64> = FxHashMap::default();
        for (nth, list) in lists.into_iter().enumerate() {
            for ListItem { score, member } in list {
                if !self.is_undone(view, nth, score, &member) {
                    let known = latest.entry(member).or_insert(score);
                    *known = score.max(*known);
                }
            }
        }
        let mut united: Vec<ListItem> = latest.into_iter().map(|(member, score)| ListItem { score, member }).collect();
        united.sort_unstable_by(ListItem::rank);
        united
    }

    fn is_undone(&self, view: u8, by: usize, since: i64, other: &Bytes) -> bool {
        if self.0.is_empty() {
            return false;
        }
        // Members are ids, checked to be UTF-8 when they came in.
        let edge = views::undone_member(view, str::from_utf8(other).unwrap_or_default());
        let undone = self.0.get(&edge).into_iter().flatten();
        undone.into_iter().any(|(nth, at)| *nth != by && *at >= since)
    }
}

fn member_id(item: ListItem) -> Option<String> {
    String::from_utf8(item.member.into()).ok()
}
