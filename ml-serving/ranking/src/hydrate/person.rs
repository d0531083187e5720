//! Which ids the viewer has, and what each of them keeps.

use futures::future::try_join;
use millrace_feature_store::person::{Links, Person, Relatives};
use millrace_feature_store::views::{self, ALIASES, IDENTITY};
use millrace_feature_store::{ListItem, OnlineStore};
use rustc_hash::FxHashMap;

use crate::Result;

/// The heads of some lists of an id, in the order in which they were asked for.
pub(crate) type Heads = Vec<Vec<ListItem>>;

/// The person of `id`, and for each id that was looked at the first `limit` items of its lists in `views`.
///
/// Lists come along with the links, so an id that was never linked costs one read, and one with an alias two.
pub(crate) async fn read_person(
    store: &dyn OnlineStore,
    id: &str,
    views: &[u8],
    limit: usize,
) -> Result<(Person, FxHashMap<String, Heads>)> {
    let mut relatives = Relatives::of(id);
    let mut kept = FxHashMap::default();
    loop {
        let wanted = relatives.wanted();
        if wanted.is_empty() {
            return Ok((relatives.person(), kept));
        }
        let records: Vec<_> = wanted.iter().map(|id| views::record(IDENTITY, id)).collect();
        let of_each = || std::iter::once(&ALIASES).chain(views);
        let lists: Vec<_> = wanted.iter().flat_map(|id| of_each().map(|view| views::list(*view, id))).collect();
        let (identities, heads) = try_join(store.get(&records), store.heads(&lists, limit)).await?;
        let mut heads = heads.into_iter();
        for (id, identity) in wanted.into_iter().zip(identities) {
            let aliases = heads.next().unwrap_or_default();
            kept.insert(id.clone(), heads.by_ref().take(views.len()).collect());
            relatives.insert(id, Links::decode(identity, aliases)?);
        }
    }
}
