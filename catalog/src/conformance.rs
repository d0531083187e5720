//! The laws of [`Catalog`], for every backend.
//!
//! Each law is a function that takes a [`Place`]: a catalog that is empty, and how to open it.
//! [`catalog_conformance!`](crate::catalog_conformance) stamps them as named tests.

use std::any::Any;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures::future::{BoxFuture, join_all};
use serde_json::json;
use tokio::time::timeout;

use crate::{
    Cached, CachedOptions, Catalog, Change, DOCUMENT_BYTES_MAX, Document, Entry, ErrorKind, Expect, KIND_BYTES_MAX,
    KeyUse, NAME_BYTES_MAX, PAGE_BYTES_MAX, PAGE_MAX, Record as _, Revision, transfer,
};

/// How long a law waits for what must come.
const PATIENCE: Duration = Duration::from_secs(20);

/// Bounds that a law wants to come to.
#[derive(Clone, Copy, Debug)]
pub struct Tuning {
    /// How many entries there may be.
    pub entries_max: u32,
    /// How many tombstones are kept.
    pub tombstones_max: u32,
}

/// Bounds that no law comes to by chance.
pub const WIDE: Tuning = Tuning { entries_max: 100_000, tombstones_max: 10_000 };

/// Opens a handle of its own on the catalog of a [`Place`], as another process would.
pub type Open = Arc<dyn Fn(Tuning) -> BoxFuture<'static, Arc<dyn Catalog>> + Send + Sync>;

/// A catalog that is empty.
pub struct Place {
    /// Opens it.
    pub open: Open,
    /// Opens another one, which is empty too and of any backend.
    pub origin: Open,
    /// Kept until the law has been checked.
    pub keep: Box<dyn Any + Send>,
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Place")
    }
}

impl Place {
    /// A handle.
    pub async fn handle(&self) -> Arc<dyn Catalog> {
        (self.open)(WIDE).await
    }
}

/// Stamps every law as a test of a backend, in a module of its name. `$make` gives a place, or none where the engine cannot be
/// had. Needs `tokio` with `macros` and `rt-multi-thread`.
#[macro_export]
macro_rules! catalog_conformance {
    ($backend:ident, $make:expr) => {
        $crate::catalog_conformance!(
            $backend, $make;
            what_was_put_is_there,
            a_change_needs_what_it_expects,
            each_change_has_the_next_revision,
            what_was_deleted_leaves_a_tombstone,
            lists_are_in_order_and_continue_exactly,
            kinds_are_those_of_entries,
            a_transfer_leaves_two_that_are_equal,
            a_transfer_takes_uses_of_keys_as_they_are,
            of_many_that_expect_the_same_one_wins,
            readers_of_changes_miss_nothing,
            answers_are_bounded,
            tombstones_are_forgotten_and_readers_told,
            entries_are_bounded,
            changes_ahead_of_the_catalog_are_refused,
            another_handle_is_woken,
            names_are_bytes_in_no_language,
            documents_are_kept_to_the_last_digit,
            what_can_never_be_stored_is_refused,
            what_was_put_survives_reopening,
            a_catalog_in_memory_follows,
            a_closed_catalog_says_so,
        );
    };
    ($backend:ident, $make:expr; $($law:ident),+ $(,)?) => {
        mod $backend {
            #[allow(unused_imports)]
            use super::*;
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $law() {
                    let place: Option<$crate::conformance::Place> = $make;
                    if let Some(place) = place {
                        $crate::conformance::$law(place).await;
                    }
                }
            )+
        }
    };
}

const KIND: &str = "things";

/// A small document.
///
/// # Panics
/// Never: it fits.
pub fn document(n: u64) -> Document {
    Document::of(&json!({ "n": n })).expect("it is small")
}

async fn put(catalog: &dyn Catalog, name: &str, n: u64) -> Revision {
    catalog.put(KIND, name, &document(n), Expect::Any).await.expect("the catalog takes a good entry")
}

/// All changes after a revision.
///
/// # Panics
/// When the catalog cannot be read, or tells them out of order.
pub async fn changes(catalog: &dyn Catalog, since: Revision, limit: usize) -> Vec<Change> {
    let mut all: Vec<Change> = Vec::new();
    loop {
        let from = all.last().map_or(since, Change::revision);
        let more = catalog.changes_since(from, limit).await.expect("the catalog can be read");
        assert!(more.len() <= limit, "{} changes where {limit} were asked for", more.len());
        if more.is_empty() {
            return all;
        }
        assert!(more[0].revision() > from, "a change is told of once");
        assert!(more.is_sorted_by(|a, b| a.revision() < b.revision()), "changes are in order");
        all.extend(more);
    }
}

/// All entries of a kind.
///
/// # Panics
/// When the catalog cannot be read.
pub async fn entries(catalog: &dyn Catalog, kind: &str, limit: usize) -> Vec<Entry> {
    let mut all: Vec<Entry> = Vec::new();
    loop {
        let after = all.last().map(|entry| entry.name.clone());
        let more = catalog.list(kind, after.as_deref(), limit).await.expect("the catalog can be read");
        assert!(more.len() <= limit, "{} entries where {limit} were asked for", more.len());
        if more.is_empty() {
            return all;
        }
        all.extend(more);
    }
}

fn names(entries: &[Entry]) -> Vec<&str> {
    entries.iter().map(|entry| entry.name.as_str()).collect()
}

fn check_kind<T: fmt::Debug>(result: crate::Result<T>, kind: ErrorKind, why: &str) {
    assert_eq!(result.expect_err(why).kind(), kind, "{why}");
}

/// An entry is read as it was written, and is nothing else.
pub async fn what_was_put_is_there(place: Place) {
    let catalog = place.handle().await;
    assert_eq!(catalog.get(KIND, "a").await.expect("it can be read"), None);
    let first = put(&*catalog, "a", 1).await;
    let entry = catalog.get(KIND, "a").await.expect("it can be read").expect("it was put");
    assert_eq!((entry.kind.as_str(), entry.name.as_str(), entry.revision), (KIND, "a", first));
    assert_eq!(entry.document, document(1));
    assert_eq!(entry.created_ms, entry.updated_ms);
    let head = catalog.head().await.expect("it can be read");
    assert_eq!(head.revision, first);
    assert!((0..60_000).contains(&(head.now_ms - entry.created_ms)), "times are of one clock, in milliseconds");
    let second = put(&*catalog, "a", 2).await;
    let changed = catalog.get(KIND, "a").await.expect("it can be read").expect("it was put");
    assert_eq!((changed.document, changed.revision), (document(2), second));
    assert_eq!(changed.created_ms, entry.created_ms, "it was made once");
    assert!(changed.updated_ms >= entry.updated_ms);
    assert_eq!(catalog.get(KIND, "b").await.expect("it can be read"), None);
    assert_eq!(catalog.get("others", "a").await.expect("it can be read"), None);
    catalog.healthy().await.expect("it is well");
}

/// A change whose expectation does not hold changes nothing, and its author is told what is there.
pub async fn a_change_needs_what_it_expects(place: Place) {
    let catalog = place.handle().await;
    let try_put = async |expect| catalog.put(KIND, "a", &document(9), expect).await;
    let try_delete = async |expect| catalog.delete(KIND, "a", expect).await;
    let (absent, older) = (ErrorKind::Conflict(None), Revision(77));
    check_kind(try_put(Expect::Revision(older)).await, absent, "there is none");
    check_kind(try_delete(Expect::Revision(older)).await, absent, "there is none");
    assert_eq!(try_delete(Expect::Any).await.expect("nothing was expected"), None);
    assert_eq!(catalog.revision().await.expect("it can be read"), Revision(0), "nothing was changed");
    let first = try_put(Expect::Absent).await.expect("there was none");
    check_kind(try_put(Expect::Absent).await, ErrorKind::Conflict(Some(first)), "there is one");
    let second = try_put(Expect::Revision(first)).await.expect("it is at that revision");
    check_kind(try_put(Expect::Revision(first)).await, ErrorKind::Conflict(Some(second)), "it has changed");
    check_kind(try_delete(Expect::Revision(first)).await, ErrorKind::Conflict(Some(second)), "it has changed");
    check_kind(try_delete(Expect::Absent).await, ErrorKind::Invalid, "what is absent cannot be deleted");
    assert_eq!(catalog.revision().await.expect("it can be read"), second, "nothing was changed");
    let third = try_delete(Expect::Revision(second)).await.expect("it is at that revision").expect("there was one");
    check_kind(try_put(Expect::Revision(third)).await, absent, "a tombstone is no entry");
    try_put(Expect::Absent).await.expect("there is none again");
}

/// Revisions rise by one from change to change, of whatever kind.
pub async fn each_change_has_the_next_revision(place: Place) {
    let (one, other) = (place.handle().await, place.handle().await);
    for n in 0..5 {
        assert_eq!(put(&*one, "a", n).await, Revision(3 * n + 1));
        let of_other = other.put("others", "a", &document(n), Expect::Any).await.expect("it is good");
        assert_eq!(of_other, Revision(3 * n + 2));
        let deleted = other.delete(KIND, "a", Expect::Any).await.expect("it is there");
        assert_eq!(deleted, Some(Revision(3 * n + 3)));
        assert_eq!(one.revision().await.expect("it can be read"), Revision(3 * n + 3));
    }
}

/// A deleted entry is gone, told of as such, and may be made again.
pub async fn what_was_deleted_leaves_a_tombstone(place: Place) {
    let catalog = place.handle().await;
    put(&*catalog, "a", 1).await;
    let kept = put(&*catalog, "b", 2).await;
    let deleted = catalog.delete(KIND, "a", Expect::Any).await.expect("it is there").expect("it is there");
    assert_eq!(catalog.get(KIND, "a").await.expect("it can be read"), None);
    assert_eq!(names(&entries(&*catalog, KIND, 10).await), ["b"]);
    let tombstone = Change::Deleted { kind: KIND.to_owned(), name: "a".to_owned(), revision: deleted };
    let told = changes(&*catalog, Revision(0), 10).await;
    assert_eq!(told.len(), 2, "of each entry the last change");
    assert!(matches!(&told[0], Change::Put(entry) if entry.name == "b" && entry.revision == kept));
    assert_eq!(told[1], tombstone);
    assert_eq!(changes(&*catalog, kept, 10).await, [tombstone]);
    assert_eq!(catalog.delete(KIND, "a", Expect::Any).await.expect("nothing was expected"), None);
    let again = put(&*catalog, "a", 3).await;
    let told = changes(&*catalog, deleted, 10).await;
    assert!(matches!(&told[..], [Change::Put(entry)] if entry.name == "a" && entry.revision == again));
    assert_eq!(names(&entries(&*catalog, KIND, 10).await), ["a", "b"]);
}

/// Lists have all entries of their kind, once, however they are cut into pages.
pub async fn lists_are_in_order_and_continue_exactly(place: Place) {
    let catalog = place.handle().await;
    for n in (0..37_u64).rev() {
        put(&*catalog, &format!("n{n:02}"), n).await;
        catalog.put("others", &format!("o{n}"), &document(n), Expect::Any).await.expect("it is good");
    }
    let want: Vec<String> = (0..37).map(|n| format!("n{n:02}")).collect();
    for limit in [1, 5, 37, 1_000] {
        assert_eq!(names(&entries(&*catalog, KIND, limit).await), want);
        assert_eq!(changes(&*catalog, Revision(0), limit).await.len(), 74);
    }
    assert!(catalog.list(KIND, None, 0).await.expect("it can be read").is_empty());
    assert!(catalog.changes_since(Revision(0), 0).await.expect("it can be read").is_empty());
    let from_between = catalog.list(KIND, Some("n10x"), 2).await.expect("it can be read");
    assert_eq!(names(&from_between), ["n11", "n12"]);
    assert!(catalog.list("none", None, 5).await.expect("it can be read").is_empty());
}

/// The kinds are those that there is an entry of.
pub async fn kinds_are_those_of_entries(place: Place) {
    let catalog = place.handle().await;
    assert_eq!(catalog.kinds().await.expect("it can be read"), Vec::<String>::new());
    for (kind, name) in [("b", "1"), ("a", "1"), ("b", "2"), ("a-b", "1"), ("c", "1")] {
        catalog.put(kind, name, &document(0), Expect::Absent).await.expect("it is good");
    }
    catalog.delete("c", "1", Expect::Any).await.expect("it is there");
    catalog.delete("b", "1", Expect::Any).await.expect("it is there");
    assert_eq!(catalog.kinds().await.expect("it can be read"), ["a", "a-b", "b"]);
}

/// A transfer into an empty catalog, also one that was cut short and is repeated, makes it equal; what somebody else has put
/// there is not touched.
pub async fn a_transfer_leaves_two_that_are_equal(place: Place) {
    let (from, to) = ((place.origin)(WIDE).await, place.handle().await);
    for n in 0..5 {
        from.put(KIND, &format!("n{n}"), &document(n), Expect::Any).await.expect("it is good");
        from.put("others", &format!("é{n}'"), &document(n), Expect::Any).await.expect("it is good");
    }
    from.delete(KIND, "n0", Expect::Any).await.expect("it is there");
    put(&*to, "n1", 1).await;
    assert_eq!(transfer(&*from, &*to).await.expect("it holds nothing else"), 9);
    let at = to.revision().await.expect("it can be read");
    assert_eq!(at, Revision(9), "what was there already was not written again");
    assert_eq!(transfer(&*from, &*to).await.expect("it is equal already"), 9);
    assert_eq!(to.revision().await.expect("it can be read"), at, "there was nothing to do");
    assert_eq!(names(&entries(&*to, "others", 10).await), names(&entries(&*from, "others", 10).await));
    put(&*to, "n2", 77).await;
    let refused = transfer(&*from, &*to).await.expect_err("somebody has changed it");
    assert!(matches!(refused.kind(), ErrorKind::Conflict(Some(_))), "{refused}");
    put(&*to, "n2", 2).await;
    put(&*to, "more", 1).await;
    let refused = transfer(&*from, &*to).await.expect_err("it holds more");
    assert!(matches!(refused.kind(), ErrorKind::Conflict(Some(_))), "{refused}");
}

/// When keys were used changes while servers run: it is copied, and that it changes stops no transfer.
pub async fn a_transfer_takes_uses_of_keys_as_they_are(place: Place) {
    let (from, to) = ((place.origin)(WIDE).await, place.handle().await);
    for (catalog, name, n) in [(&from, "a", 2), (&to, "a", 1), (&to, "b", 1)] {
        catalog.put(KeyUse::KIND, name, &document(n), Expect::Any).await.expect("it is good");
    }
    assert_eq!(transfer(&*from, &*to).await.expect("there is nothing else"), 1);
    for (name, n) in [("a", 2), ("b", 1)] {
        let entry = to.get(KeyUse::KIND, name).await.expect("it can be read").expect("it is there");
        assert_eq!(entry.document, document(n), "{name}");
    }
}

/// Many read the same revision and change it; exactly one succeeds, each time.
pub async fn of_many_that_expect_the_same_one_wins(place: Place) {
    let handles = [place.handle().await, place.handle().await];
    let mut at = None;
    for round in 0..8_u64 {
        let expect = at.map_or(Expect::Absent, Expect::Revision);
        let tries = (0..12_u64).map(|n| {
            let catalog = handles[n as usize % 2].clone();
            tokio::spawn(async move { catalog.put(KIND, "a", &document(100 * round + n), expect).await })
        });
        let results: Vec<_> = join_all(tries).await.into_iter().map(|joined| joined.expect("no try panics")).collect();
        let won: Vec<usize> = (0..results.len()).filter(|n| results[*n].is_ok()).collect();
        assert_eq!(won.len(), 1, "round {round}: {results:?}");
        let revision = *results[won[0]].as_ref().expect("it has won");
        assert_eq!(revision, Revision(round + 1), "those who lost took no revision");
        for lost in results.iter().filter_map(|result| result.as_ref().err()) {
            assert_eq!(lost.kind(), ErrorKind::Conflict(Some(revision)), "{lost}");
        }
        let entry = handles[0].get(KIND, "a").await.expect("it can be read").expect("it is there");
        assert_eq!(entry.document, document(100 * round + won[0] as u64), "what won is there");
        at = Some(revision);
    }
}

/// A reader that goes on from the last revision it was given has everything in the end, while many write.
pub async fn readers_of_changes_miss_nothing(place: Place) {
    const WRITERS: u64 = 6;
    const WRITES: u64 = 30;
    let handles = [place.handle().await, place.handle().await, place.handle().await];
    let writers = (0..WRITERS).map(|writer| {
        let catalog = handles[writer as usize % 2].clone();
        tokio::spawn(async move {
            let mut last = Revision(0);
            for n in 0..WRITES {
                // Names of its own, each written twice, so that each revision is seen or replaced by a later one.
                last = put(&*catalog, &format!("w{writer}-{}", n / 2), n).await;
                if n % 10 == 9 {
                    let name = format!("w{writer}-{}", n / 2);
                    last = catalog.delete(KIND, &name, Expect::Any).await.expect("it is there").expect("it is there");
                }
            }
            last
        })
    });
    let writers = tokio::spawn(join_all(writers.collect::<Vec<_>>()));
    let reader = &handles[2];
    let mut known: BTreeMap<String, (Revision, Option<Document>)> = BTreeMap::new();
    let mut at = Revision(0);
    let mut reads = 0;
    loop {
        let is_over = writers.is_finished();
        let page = reader.changes_since(at, 7).await.expect("it can be read");
        reads += 1;
        let is_end = page.is_empty();
        for change in page {
            assert!(change.revision() > at, "changes are in order");
            at = change.revision();
            match change {
                Change::Put(entry) => known.insert(entry.name, (entry.revision, Some(entry.document))),
                Change::Deleted { name, revision, .. } => known.insert(name, (revision, None)),
            };
        }
        if is_over && is_end {
            break;
        }
    }
    let last: Vec<Revision> =
        writers.await.expect("they end").into_iter().map(|last| last.expect("no writer panics")).collect();
    assert!(reads > 3, "it has read while they wrote");
    assert_eq!(Some(at), last.into_iter().max(), "the reader came to the end");
    let live: BTreeMap<String, Document> =
        known.into_iter().filter_map(|(name, (_, document))| Some((name, document?))).collect();
    let listed = entries(&**reader, KIND, 100).await;
    let listed: BTreeMap<String, Document> = listed.into_iter().map(|entry| (entry.name, entry.document)).collect();
    assert_eq!(live, listed, "what it was told is what is there");
    assert_eq!(live.len() as u64, WRITERS * (WRITES / 2 - WRITES / 10));
}

/// No answer holds more than it may, and what was left out follows.
pub async fn answers_are_bounded(place: Place) {
    let catalog = place.handle().await;
    let text = "x".repeat(DOCUMENT_BYTES_MAX - 2);
    let largest = Document::of(&text).expect("it just fits");
    let fit = PAGE_BYTES_MAX / DOCUMENT_BYTES_MAX;
    for n in 0..=fit {
        catalog.put("large", &format!("n{n:03}"), &largest, Expect::Any).await.expect("it just fits");
    }
    let first = catalog.list("large", None, PAGE_MAX).await.expect("it can be read");
    assert_eq!(first.len(), fit, "as many as {PAGE_BYTES_MAX} bytes");
    assert_eq!(first[0].document, largest);
    assert_eq!(entries(&*catalog, "large", PAGE_MAX).await.len(), fit + 1);
    assert_eq!(catalog.changes_since(Revision(0), PAGE_MAX).await.expect("it can be read").len(), fit);
    assert_eq!(changes(&*catalog, Revision(0), usize::MAX).await.len(), fit + 1);
    let before = catalog.revision().await.expect("it can be read");
    for batch in 0..11 {
        let puts = (0..100).map(|n| {
            let catalog = catalog.clone();
            async move { put(&*catalog, &format!("n{batch}-{n}"), n).await }
        });
        join_all(puts).await;
    }
    assert_eq!(catalog.list(KIND, None, usize::MAX).await.expect("it can be read").len(), PAGE_MAX);
    assert_eq!(catalog.changes_since(before, usize::MAX).await.expect("it can be read").len(), PAGE_MAX);
    assert_eq!(entries(&*catalog, KIND, PAGE_MAX).await.len(), 1_100);
}

/// There are so many tombstones at most, and who would miss a forgotten one is told to read all again.
pub async fn tombstones_are_forgotten_and_readers_told(place: Place) {
    let catalog = (place.open)(Tuning { tombstones_max: 4, ..WIDE }).await;
    put(&*catalog, "kept", 0).await;
    for n in 0..10 {
        put(&*catalog, &format!("n{n}"), n).await;
    }
    for n in 0..4 {
        catalog.delete(KIND, &format!("n{n}"), Expect::Any).await.expect("it is there");
    }
    assert_eq!(changes(&*catalog, Revision(0), 100).await.len(), 11, "four tombstones are kept");
    for n in 4..10 {
        catalog.delete(KIND, &format!("n{n}"), Expect::Any).await.expect("it is there");
    }
    // Revisions 12 to 21 deleted; 18 to 21 are kept.
    for since in [0, 1, 11, 16] {
        check_kind(catalog.changes_since(Revision(since), 100).await, ErrorKind::Expired, "it would miss some");
    }
    let told = changes(&*catalog, Revision(17), 100).await;
    let revisions: Vec<u64> = told.iter().map(|change| change.revision().0).collect();
    assert_eq!(revisions, [18, 19, 20, 21]);
    assert_eq!(names(&entries(&*catalog, KIND, 100).await), ["kept"], "lists do not need them");
    assert_eq!(put(&*catalog, "n0", 0).await, Revision(22), "what was forgotten may be made again");
}

/// A catalog that is full takes no new entry, and still takes changes and deletions.
pub async fn entries_are_bounded(place: Place) {
    let catalog = (place.open)(Tuning { entries_max: 3, ..WIDE }).await;
    for n in 0..3 {
        put(&*catalog, &format!("n{n}"), n).await;
    }
    let more = catalog.put(KIND, "n3", &document(3), Expect::Absent).await;
    let refused = more.expect_err("it is full");
    assert_eq!(refused.kind(), ErrorKind::Refused);
    assert!(refused.to_string().contains("delete some"), "{refused}");
    put(&*catalog, "n0", 10).await;
    catalog.delete(KIND, "n1", Expect::Any).await.expect("it is there");
    put(&*catalog, "n3", 3).await;
    check_kind(catalog.put("others", "n", &document(0), Expect::Any).await, ErrorKind::Refused, "it is full again");
    assert_eq!(names(&entries(&*catalog, KIND, 100).await), ["n0", "n2", "n3"]);
}

/// Who knows more than the catalog has read another one, or one from before it was restored.
pub async fn changes_ahead_of_the_catalog_are_refused(place: Place) {
    let catalog = place.handle().await;
    check_kind(catalog.changes_since(Revision(1), 10).await, ErrorKind::Expired, "there is no revision yet");
    let last = put(&*catalog, "a", 1).await;
    assert!(catalog.changes_since(last, 10).await.expect("it can be read").is_empty());
    for since in [last.0 + 1, u64::MAX] {
        check_kind(catalog.changes_since(Revision(since), 10).await, ErrorKind::Expired, "it is ahead");
    }
}

/// A change wakes those who watch, through this handle and any other.
pub async fn another_handle_is_woken(place: Place) {
    let (one, other) = (place.handle().await, place.handle().await);
    let (mut own, mut theirs) = (one.watch(), other.watch());
    for n in 0..5 {
        let revision = if n == 3 {
            one.delete(KIND, "a", Expect::Any).await.expect("it is there").expect("it is there")
        } else {
            put(&*one, "a", n).await
        };
        for (catalog, watch) in [(&one, &mut own), (&other, &mut theirs)] {
            let woken = timeout(PATIENCE, async {
                while catalog.revision().await.expect("it can be read") < revision
                    || !watch.has_changed().expect("it is open")
                {
                    watch.changed().await.expect("it is open");
                    watch.mark_changed();
                }
                watch.mark_unchanged();
            });
            woken.await.expect("watchers are woken");
        }
    }
}

/// Names that some language would take for something else are names.
pub async fn names_are_bytes_in_no_language(place: Place) {
    let catalog = place.handle().await;
    let mut ugly: Vec<String> = [
        "'",
        "''; DROP TABLE catalog_entries; --",
        "\"",
        "\\",
        "\\'",
        "%",
        "_",
        "a%b",
        "$1",
        "?1",
        ":name",
        "{}",
        "NULL",
        "a b",
        " ",
        "a ",
        "A",
        "a",
        "á",
        "a\u{301}",
        "ß",
        "SS",
        "ſ",
        "İ",
        "i",
        "Ω",
        "日本語",
        "🦀",
        "👩‍👩‍👧",
        "\u{202e}abc",
        "\u{feff}",
        "\u{ffff}",
        "\u{10ffff}",
        "../../etc/passwd",
        "<script>",
        "z",
    ]
    .map(str::to_owned)
    .into();
    ugly.push("é".repeat(NAME_BYTES_MAX / 2));
    for (n, name) in ugly.iter().enumerate() {
        let made = catalog.put(KIND, name, &document(n as u64), Expect::Absent).await;
        assert!(made.is_ok(), "{name:?} is a name of its own: {made:?}");
    }
    for (n, name) in ugly.iter().enumerate() {
        let entry = catalog.get(KIND, name).await.expect("it can be read").expect("it was put");
        assert_eq!((&entry.name, entry.document), (name, document(n as u64)));
    }
    let mut want: Vec<&str> = ugly.iter().map(String::as_str).collect();
    want.sort_unstable();
    for limit in [1, 3, 100] {
        assert_eq!(names(&entries(&*catalog, KIND, limit).await), want, "the order is that of bytes");
    }
    for name in &ugly {
        let deleted = catalog.delete(KIND, name, Expect::Any).await.expect("it can be deleted");
        assert!(deleted.is_some(), "{name:?} is there");
    }
    assert!(entries(&*catalog, KIND, 100).await.is_empty());
}

/// A document is the text that was written, whatever it means.
pub async fn documents_are_kept_to_the_last_digit(place: Place) {
    let catalog = place.handle().await;
    let texts = [
        "null",
        "0",
        "-0.0",
        "1.0",
        "1e3",
        "0.1",
        "0.30000000000000004",
        "18446744073709551615",
        "-9223372036854775808",
        "123456789012345678901234567890",
        "\"\"",
        "\"\\u0000\"",
        "\"\\\"'; DROP TABLE catalog_entries; --\"",
        "[]",
        "{}",
        "{ \"b\" : 1,\n\t\"a\": [true, false] }",
        "{\"a\":1,\"a\":2}",
        "\"日本語 🦀\"",
        "\"\\ud83e\\udd80\"",
    ];
    for (n, text) in texts.iter().enumerate() {
        let written = Document::parse(text).expect("it is JSON");
        catalog.put(KIND, &format!("n{n}"), &written, Expect::Any).await.expect("it is JSON");
        let entry = catalog.get(KIND, &format!("n{n}")).await.expect("it can be read").expect("it was put");
        assert_eq!(entry.document.as_str(), *text);
    }
}

/// What no catalog takes is refused before any is asked.
pub async fn what_can_never_be_stored_is_refused(place: Place) {
    let catalog = place.handle().await;
    let long = |bytes: usize| "x".repeat(bytes);
    let small = document(0);
    for kind in ["", "A", "9a", "-a", "a b", "a'", "é", "a\0", &long(KIND_BYTES_MAX + 1)] {
        check_kind(catalog.put(kind, "a", &small, Expect::Any).await, ErrorKind::Invalid, kind);
        check_kind(catalog.get(kind, "a").await, ErrorKind::Invalid, kind);
        check_kind(catalog.list(kind, None, 1).await, ErrorKind::Invalid, kind);
        check_kind(catalog.delete(kind, "a", Expect::Any).await, ErrorKind::Invalid, kind);
    }
    for name in ["", "\0", "a\0b", "a\nb", "\u{7f}", "\u{85}", &long(NAME_BYTES_MAX + 1)] {
        check_kind(catalog.put(KIND, name, &small, Expect::Any).await, ErrorKind::Invalid, name);
        check_kind(catalog.get(KIND, name).await, ErrorKind::Invalid, name);
        check_kind(catalog.delete(KIND, name, Expect::Any).await, ErrorKind::Invalid, name);
    }
    check_kind(catalog.list(KIND, Some("\0"), 1).await, ErrorKind::Invalid, "no name begins there");
    check_kind(Document::of(&long(DOCUMENT_BYTES_MAX - 1)), ErrorKind::Invalid, "a byte too long");
    for text in [
        "",
        "{",
        "nul",
        "1e999",
        "{}x",
        "\"\\ud83e\"",
        &"[".repeat(10_000),
        &format!("{}{}", "[".repeat(200), "]".repeat(200)),
    ] {
        check_kind(Document::parse(text), ErrorKind::Invalid, text);
    }
    assert_eq!(catalog.revision().await.expect("it can be read"), Revision(0), "nothing was changed");
    for kind in ["a", "a-9", &long(KIND_BYTES_MAX)] {
        catalog.put(kind, &long(NAME_BYTES_MAX), &small, Expect::Any).await.expect("it is at the bounds");
    }
}

/// What was answered is there after everything was closed.
pub async fn what_was_put_survives_reopening(place: Place) {
    let catalog = place.handle().await;
    put(&*catalog, "a", 1).await;
    put(&*catalog, "b", 2).await;
    catalog.delete(KIND, "a", Expect::Any).await.expect("it is there");
    let told = changes(&*catalog, Revision(0), 10).await;
    catalog.close().await;
    drop(catalog);
    let again = place.handle().await;
    assert_eq!(changes(&*again, Revision(0), 10).await, told);
    assert_eq!(put(&*again, "c", 3).await, Revision(4), "the sequence goes on");
}

/// What is in memory comes to be what the catalog holds.
pub async fn a_catalog_in_memory_follows(place: Place) {
    let (writer, reader) = (place.handle().await, place.handle().await);
    put(&*writer, "before", 1).await;
    let cached = Cached::start(reader, CachedOptions::new([KIND])).await.expect("the catalog can be read");
    assert_eq!(cached.snapshot().get(KIND, "before").map(|entry| entry.document.clone()), Some(document(1)));
    put(&*writer, "after", 2).await;
    writer.put("others", "o", &document(0), Expect::Any).await.expect("it is good");
    let last = writer.delete(KIND, "before", Expect::Any).await.expect("it is there").expect("it is there");
    timeout(PATIENCE, cached.reached(last)).await.expect("it follows");
    let snapshot = cached.snapshot();
    let found: Vec<&Entry> = snapshot.entries(KIND).collect();
    assert_eq!(found.len(), 1);
    assert_eq!((found[0].name.as_str(), &found[0].document), ("after", &document(2)));
    assert_eq!(snapshot.entries("others").count(), 0, "it was not asked for");
    assert_eq!(cached.stale_since_ms(), None);
    let mut news = cached.watch();
    news.mark_unchanged();
    let last = writer.put("others", "o", &document(1), Expect::Any).await.expect("it is good");
    timeout(PATIENCE, cached.reached(last)).await.expect("it follows");
    assert!(!news.has_changed().expect("it is there"), "entries of other kinds are no news");
    put(&*writer, "after", 3).await;
    timeout(PATIENCE, news.changed()).await.expect("it follows").expect("it is there");
    let (state, head) = (cached.state(), writer.head().await.expect("it can be read"));
    let now_ms = state.now_ms().expect("it was asked");
    assert!(now_ms >= state.confirmed_ms && now_ms.abs_diff(head.now_ms) < 60_000, "{now_ms} is not {}", head.now_ms);
}

/// After `close`, calls fail and none hangs.
pub async fn a_closed_catalog_says_so(place: Place) {
    let (catalog, other) = (place.handle().await, place.handle().await);
    put(&*catalog, "a", 1).await;
    catalog.close().await;
    let read = timeout(PATIENCE, catalog.get(KIND, "a")).await.expect("it ends");
    let refused = read.expect_err("it is closed");
    assert_eq!(refused.kind(), ErrorKind::Refused);
    assert!(refused.to_string().contains("closed"), "{refused}");
    catalog.close().await;
    put(&*other, "a", 2).await;
}
