use super::*;

fn open(dir: &Path) -> Arc<Embedded> {
    Embedded::open(dir, Options::default()).unwrap()
}

fn put(embedded: &Arc<Embedded>, space: &Space, key: &str, value: &str, durability: Durability) {
    let mut batch = Batch::default();
    batch.put(space, key, value);
    embedded.write(batch, durability).unwrap();
}

#[test]
fn what_was_synced_is_there_after_opening_again() {
    let dir = tempfile::tempdir().unwrap();
    {
        let embedded = open(dir.path());
        let space = embedded.space("a").unwrap();
        put(&embedded, &space, "k", "v", Durability::Synced);
    }
    let embedded = open(dir.path());
    assert_eq!(embedded.space("a").unwrap().get("k").unwrap().unwrap(), "v");
}

#[test]
fn spaces_survive_reopening() {
    let dir = tempfile::tempdir().unwrap();
    let embedded = open(dir.path());
    let space = embedded.space("a").unwrap();
    put(&embedded, &space, "k", "v", Durability::Synced);
    embedded.reopen().unwrap();
    assert_eq!(space.get("k").unwrap().unwrap(), "v");
    put(&embedded, &space, "k", "w", Durability::Ordered);
    assert_eq!(space.get("k").unwrap().unwrap(), "w");
}

#[test]
fn a_second_opener_is_told_who_is_in_the_way() {
    let dir = tempfile::tempdir().unwrap();
    let _first = open(dir.path());
    let error = Embedded::open(dir.path(), Options::default()).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Locked);
    assert!(error.to_string().contains("another process"), "{error}");
}

#[test]
fn ranges_are_bounded_and_ordered() {
    let dir = tempfile::tempdir().unwrap();
    let embedded = open(dir.path());
    let space = embedded.space("a").unwrap();
    for key in ["a1", "a2", "a3", "b1"] {
        put(&embedded, &space, key, key, Durability::Ordered);
    }
    let keys = |pairs: Vec<Pair>| pairs.iter().map(|(k, _)| String::from_utf8(k.to_vec()).unwrap()).collect::<Vec<_>>();
    assert_eq!(keys(space.prefix(b"a", 2).unwrap()), ["a1", "a2"]);
    assert_eq!(keys(space.range(Bound::Excluded(b"a2"), Bound::Unbounded, 9).unwrap()), ["a3", "b1"]);
    assert_eq!(keys(space.range_back(Bound::Unbounded, Bound::Excluded(b"b1"), 2).unwrap()), ["a3", "a2"]);
}

#[test]
fn a_dropped_space_is_empty_when_made_again() {
    let dir = tempfile::tempdir().unwrap();
    let embedded = open(dir.path());
    let space = embedded.space("a").unwrap();
    put(&embedded, &space, "k", "v", Durability::Synced);
    embedded.drop_space("a").unwrap();
    assert_eq!(space.get("k").err().unwrap().kind(), ErrorKind::Failed);
    assert_eq!(embedded.space("a").unwrap().get("k").unwrap(), None);
}

#[test]
fn a_write_for_an_older_opening_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let embedded = open(dir.path());
    let space = embedded.space("a").unwrap();
    let before = embedded.epoch();
    embedded.reopen().unwrap();
    let write = |epoch| {
        let mut batch = Batch::default();
        batch.put(&space, "k", "v");
        embedded.write_as_of(epoch, batch, Durability::Synced)
    };
    assert_eq!(write(before).err().unwrap().kind(), ErrorKind::Reopened);
    assert_eq!(space.get("k").unwrap(), None);
    write(embedded.epoch()).unwrap();
    assert_eq!(space.get("k").unwrap().unwrap(), "v");
}

#[test]
fn what_was_flushed_needs_no_journal() {
    let dir = tempfile::tempdir().unwrap();
    {
        let embedded = open(dir.path());
        let space = embedded.space("a").unwrap();
        put(&embedded, &space, "k", "v", Durability::Ordered);
        embedded.flush(Duration::from_secs(5)).unwrap();
    }
    assert_eq!(open(dir.path()).space("a").unwrap().get("k").unwrap().unwrap(), "v");
}

#[test]
fn a_snapshot_is_one_moment_of_every_space() {
    let dir = tempfile::tempdir().unwrap();
    let embedded = open(dir.path());
    let (a, b) = (embedded.space("a").unwrap(), embedded.space("b").unwrap());
    // A writer keeps both spaces equal, batch by batch; any moment must show them equal.
    let writing = std::thread::spawn({
        let (embedded, a, b) = (embedded.clone(), a.clone(), b.clone());
        move || {
            for number in 0..2_000_u32 {
                let mut batch = Batch::default();
                for space in [&a, &b] {
                    batch.put(space, &number.to_be_bytes()[..], &number.to_be_bytes()[..]);
                    batch.put(space, "last", &number.to_be_bytes()[..]);
                }
                embedded.write(batch, Durability::Ordered).unwrap();
            }
        }
    });
    let all = |snapshot: &Snapshot, name: &str| {
        let mut pairs: Vec<Pair> = Vec::new();
        loop {
            let after = pairs.last().map(|(key, _)| key.to_vec());
            let page = snapshot.page(name, after.as_deref(), 64).unwrap();
            if page.is_empty() {
                return pairs;
            }
            pairs.extend(page);
        }
    };
    let mut lengths = Vec::new();
    while !writing.is_finished() || lengths.is_empty() {
        let snapshot = embedded.snapshot().unwrap();
        let last = snapshot.get("a", "last").unwrap().map(|v| u32::from_be_bytes(v.as_ref().try_into().unwrap()));
        let (in_a, in_b) = (all(&snapshot, "a"), all(&snapshot, "b"));
        assert_eq!(in_a, in_b);
        assert_eq!(in_a.len(), last.map_or(0, |last| last as usize + 2));
        lengths.push(in_a.len());
    }
    writing.join().unwrap();
    assert!(lengths.is_sorted());
    let snapshot = embedded.snapshot().unwrap();
    assert_eq!(snapshot.names().collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!(snapshot.last("a").unwrap().unwrap().0, "last");
    assert_eq!(snapshot.page("c", None, 1).err().unwrap().kind(), ErrorKind::Failed);
}

#[test]
fn a_snapshot_keeps_what_was_deleted_and_ends_with_a_reopen() {
    let dir = tempfile::tempdir().unwrap();
    let embedded = open(dir.path());
    let space = embedded.space("a").unwrap();
    put(&embedded, &space, "k", "v", Durability::Synced);
    let snapshot = embedded.snapshot().unwrap();
    let mut batch = Batch::default();
    batch.delete(&space, "k");
    embedded.write(batch, Durability::Synced).unwrap();
    embedded.flush(Duration::from_secs(5)).unwrap();
    assert_eq!(snapshot.get("a", "k").unwrap().unwrap(), "v");
    assert_eq!(space.get("k").unwrap(), None);
    embedded.reopen().unwrap();
    assert_eq!(snapshot.page("a", None, 1).err().unwrap().kind(), ErrorKind::Reopened);
}
