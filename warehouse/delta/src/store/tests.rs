use object_store::ObjectStoreExt;

use super::*;

struct Place {
    dir: tempfile::TempDir,
    store: DurableStore,
}

impl Place {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self { store: DurableStore::new(dir.path()).unwrap(), dir }
    }

    async fn put(&self, path: &str, bytes: &'static str, mode: PutMode) -> Result<PutResult> {
        self.store.put_opts(&Path::from(path), bytes.into(), mode.into()).await
    }

    async fn text(&self, path: &str) -> String {
        let bytes = self.store.get(&Path::from(path)).await.unwrap().bytes().await.unwrap();
        String::from_utf8(bytes.to_vec()).unwrap()
    }

    /// Every file that the store lists, and every one that there is.
    async fn files(&self) -> (usize, usize) {
        let listed: Vec<_> = self.store.list(None).try_collect().await.unwrap();
        (listed.len(), count(self.dir.path()))
    }
}

fn count(dir: &FsPath) -> usize {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    entries.map(|path| if path.is_dir() { count(&path) } else { 1 }).sum()
}

#[tokio::test]
async fn a_put_makes_directories_and_leaves_one_file() {
    let place = Place::new();
    place.put("a/b/c d=1.txt", "one", PutMode::Create).await.unwrap();
    place.put("a/b/c d=1.txt", "two", PutMode::Overwrite).await.unwrap();
    assert_eq!(place.text("a/b/c d=1.txt").await, "two");
    assert_eq!(place.files().await, (1, 1));
}

#[tokio::test]
async fn a_name_is_given_once() {
    let place = Place::new();
    place.put("entry", "first", PutMode::Create).await.unwrap();
    let refused = place.put("entry", "second", PutMode::Create).await;
    assert!(matches!(refused, Err(Error::AlreadyExists { .. })), "{refused:?}");
    assert_eq!(place.text("entry").await, "first");
    assert_eq!(place.files().await, (1, 1));
}

#[tokio::test]
async fn of_racing_puts_one_wins() {
    let place = Place::new();
    let puts = (0..16).map(|_| place.put("entry", "x", PutMode::Create));
    let won = futures::future::join_all(puts).await.into_iter().filter(Result::is_ok).count();
    assert_eq!(won, 1);
    assert_eq!(place.files().await, (1, 1));
}

#[tokio::test]
async fn parts_come_together_in_order_or_not_at_all() {
    let place = Place::new();
    let path = Path::from("big");
    let mut upload = place.store.put_multipart(&path).await.unwrap();
    let parts = ["one ", "two ", "three"].map(|part| upload.put_part(part.into()));
    assert_eq!(place.files().await, (0, 1));
    futures::future::try_join_all(parts.into_iter().rev()).await.unwrap();
    upload.complete().await.unwrap();
    assert_eq!(place.text("big").await, "one two three");

    let mut upload = place.store.put_multipart(&path).await.unwrap();
    upload.put_part("other".into()).await.unwrap();
    upload.abort().await.unwrap();
    assert!(upload.complete().await.is_err());
    assert_eq!(place.text("big").await, "one two three");
    assert_eq!(place.files().await, (1, 1));
}

#[tokio::test]
async fn copies_and_renames_keep_what_is_there_when_told() {
    let place = Place::new();
    place.put("a", "a", PutMode::Create).await.unwrap();
    place.put("b", "b", PutMode::Create).await.unwrap();
    let (a, b, c) = (Path::from("a"), Path::from("b"), Path::from("c"));
    assert!(matches!(place.store.rename_if_not_exists(&a, &b).await, Err(Error::AlreadyExists { .. })));
    assert!(matches!(place.store.copy(&c, &b).await, Err(Error::NotFound { .. })));
    assert_eq!(place.text("b").await, "b");
    place.store.copy(&a, &c).await.unwrap();
    place.store.rename(&a, &b).await.unwrap();
    assert_eq!((place.text("b").await.as_str(), place.text("c").await.as_str()), ("a", "a"));
    assert_eq!(place.files().await, (2, 2));
}

#[tokio::test]
async fn what_a_kill_leaves_is_never_listed_and_is_cleaned() {
    let place = Place::new();
    place.put("dir/file.json", "x", PutMode::Create).await.unwrap();
    for left in ["dir/file.json#0", "dir/file.json#12", "other#3"] {
        fs::write(place.dir.path().join(left), "torn").unwrap();
    }
    fs::write(place.dir.path().join("no#attempt"), "a file of somebody").unwrap();
    assert_eq!(place.files().await, (2, 5));
    DurableStore::clean(place.dir.path()).unwrap();
    assert_eq!(place.files().await, (2, 2));
}

#[tokio::test]
async fn names_are_listed_in_order() {
    let place = Place::new();
    let names = |prefix: &str| (0..50).map(|n| format!("{prefix}/{:02}", n * 37 % 50)).collect::<Vec<_>>();
    for name in names("dir").iter().chain(&names("dir/deeper")) {
        place.put(name, "x", PutMode::Create).await.unwrap();
    }
    let found: Vec<_> = place.store.list(Some(&Path::from("dir"))).try_collect().await.unwrap();
    assert_eq!(found.len(), 100);
    assert!(found.is_sorted_by(|a, b| a.location < b.location), "{found:?}");
    let after = place.store.list_with_offset(Some(&Path::from("dir")), &Path::from("dir/30"));
    assert_eq!(after.try_collect::<Vec<_>>().await.unwrap().len(), 19 + 50);
}
