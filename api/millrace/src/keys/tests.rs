use std::net::SocketAddr;
use std::sync::Arc;

use millrace_catalog::{SqliteCatalog, SqliteOptions};

use super::*;
use crate::catalog::Decisions;
use crate::config::{ConfigArgs, Role};

const LOOPBACK: &str = "127.0.0.1:1";
const BEYOND: &str = "192.0.2.1:1";

/// A data directory with a catalog.
struct Place {
    folder: tempfile::TempDir,
    catalog: Arc<SqliteCatalog>,
}

impl Place {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(crate::catalog::FILE);
        Self { catalog: SqliteCatalog::open(&path, SqliteOptions::default()).await.unwrap(), folder }
    }

    fn config(&self, listen: &str, given: &[&str], api_token: Option<&str>) -> Config {
        let args = ConfigArgs {
            data_dir: Some(self.folder.path().to_path_buf()),
            listen: Some(listen.parse::<SocketAddr>().unwrap()),
            write_keys: Some(given.iter().map(|key| (*key).to_owned()).collect()),
            api_token: api_token.map(str::to_owned),
            ..ConfigArgs::default()
        };
        Config::load(&args).unwrap()
    }

    async fn put(&self, record: &ApiKey) {
        write_record(self.catalog.as_ref(), record, Expect::Any).await.unwrap();
    }

    /// What refuses to start, if anything does; else who may send and read.
    async fn start(&self, config: &Config) -> std::result::Result<KeySet, String> {
        let decisions = Decisions::read(config).await.unwrap();
        decisions.refuse_a_door_without_keys().map_err(|error| error.to_string())?;
        Ok(decisions.keys())
    }
}

fn key(name: &str, scopes: &[Scope]) -> ApiKey {
    let kind = if scopes.is_empty() { KeyKind::Write } else { KeyKind::Secret };
    let hashed = HashedKey::of(&format!("key-of-{name}")).unwrap();
    ApiKey::new(name.to_owned(), kind, scopes.iter().copied().collect(), hashed, 0)
}

fn revoked(mut key: ApiKey) -> ApiKey {
    key.revoke();
    key
}

#[tokio::test]
async fn the_loopback_is_open_until_there_is_a_key_for_it() {
    for (record, any_may_send, all_may_read) in [
        (None, true, true),
        (Some(key("web", &[])), false, true),
        (Some(revoked(key("web", &[]))), false, true),
        (Some(key("server", &[Scope::EventsWrite])), false, true),
        (Some(key("reader", &[Scope::FeedsRead])), true, false),
        (Some(revoked(key("reader", &[Scope::StatusRead]))), true, false),
        (Some(key("boss", &[Scope::Admin])), false, false),
    ] {
        let place = Place::new().await;
        if let Some(record) = &record {
            place.put(record).await;
        }
        let keys = place.start(&place.config(LOOPBACK, &[], None)).await.unwrap();
        assert_eq!((keys.any_may_send, keys.all_may_read), (any_may_send, all_may_read), "{record:?}");
        let taken = record.is_some_and(|record| !record.revoked);
        assert_eq!(keys.keys.len(), usize::from(taken));
    }
    let place = Place::new().await;
    let keys = place.start(&place.config(LOOPBACK, &["web:12345678"], Some("0123456789abcdef"))).await.unwrap();
    assert!(!keys.any_may_send && !keys.all_may_read && keys.keys.len() == 1);
    let spoiled = millrace_catalog::Document::parse(r#"{"name":"web"}"#).unwrap();
    place.catalog.put("write-keys", "web", &spoiled, Expect::Any).await.unwrap();
    let keys = place.start(&place.config(LOOPBACK, &[], None)).await.unwrap();
    assert!(!keys.any_may_send && !keys.all_may_read, "nobody knows what that key was for");
}

#[tokio::test]
async fn beyond_the_loopback_nothing_starts_without_keys() {
    let (writes, reads) = ("without write keys", "without a key that reads");
    let token = Some("0123456789abcdef");
    for (records, given, api_token, refused) in [
        (vec![], &[][..], None, Some(writes)),
        (vec![], &[], token, Some(writes)),
        (vec![], &["web:12345678"], None, Some(reads)),
        (vec![], &["web:12345678"], token, None),
        (vec![key("web", &[])], &[], token, None),
        (vec![revoked(key("web", &[]))], &[], token, Some(writes)),
        (vec![key("web", &[])], &[], None, Some(reads)),
        (vec![key("web", &[]), key("app", &[Scope::FeedsRead])], &[], None, None),
        (vec![key("app", &[Scope::FeedsRead])], &[], None, Some(writes)),
        (vec![key("app", &[Scope::EventsWrite])], &[], token, None),
        (vec![key("app", &[Scope::EventsWrite, Scope::StatusRead])], &[], None, None),
        (vec![key("boss", &[Scope::Admin])], &[], None, None),
    ] {
        let place = Place::new().await;
        for record in &records {
            place.put(record).await;
        }
        match (place.start(&place.config(BEYOND, given, api_token)).await, refused) {
            (Ok(keys), None) => assert!(!keys.any_may_send && !keys.all_may_read),
            (Err(why), Some(refused)) => {
                assert!(why.contains(refused) && why.contains("millrace keys create"), "{why}");
            }
            (started, _) => panic!("{records:?} {given:?} {api_token:?}: {started:?}"),
        }
    }
}

#[tokio::test]
async fn a_process_that_does_not_answer_needs_no_key_that_reads() {
    let place = Place::new().await;
    let config = place.config(BEYOND, &["web:12345678"], None);
    let doors = Config { roles: [Role::Collector].into(), ..config };
    assert!(!place.start(&doors).await.unwrap().all_may_read);
}

#[tokio::test]
async fn an_old_key_ends_by_the_clock() {
    let place = Place::new().await;
    let mut record = key("web", &[]);
    let before = record.key.clone();
    record.rotate(HashedKey::of("the-newest-key").unwrap(), 10_000, 12_000).unwrap();
    place.put(&record).await;
    let cached =
        millrace_catalog::Cached::start(place.catalog.clone(), millrace_catalog::CachedOptions::new(["write-keys"]));
    let (config, snapshot) = (place.config(LOOPBACK, &[], None), cached.await.unwrap().snapshot());
    let uses = Uses::default();
    let at = |now_ms| KeySet::at(now_ms, &config, &snapshot, &uses);
    let takes_old = |set: &KeySet| set.keys.iter().any(|key| key.hash == KeyHash::new(before.hash.0));
    let set = at(11_500);
    assert!(takes_old(&set) && set.keys.len() == 2 && set.ends_in == Some(Duration::from_millis(500)));
    assert!(set.keys.iter().all(|key| &*key.name == "web"), "one source");
    let set = at(12_000);
    assert!(!takes_old(&set) && set.keys.len() == 1 && set.ends_in.is_none());
}

#[tokio::test]
async fn the_latest_use_is_written_once_and_by_many() {
    let place = Place::new().await;
    let record = key("web", &[]);
    let id = record.key.id.as_str();
    let known = async || {
        let found = read_record::<KeyUse>(place.catalog.as_ref(), "web").await.unwrap();
        found.map(|(uses, _)| uses.used_at_ms[id])
    };
    let (ours, theirs) = (Uses::default(), Uses::default());
    let use_at = |uses: &Uses, now_s: i64| {
        uses.tell_time(now_s * 1_000);
        uses.of("web", id).touch();
    };
    ours.write(place.catalog.as_ref(), true).await;
    assert_eq!(known().await, None, "it was never used");
    use_at(&ours, 1_000);
    ours.write(place.catalog.as_ref(), false).await;
    assert_eq!(known().await, Some(1_000_000));
    let revision = place.catalog.revision().await.unwrap();
    ours.write(place.catalog.as_ref(), true).await;
    assert_eq!(place.catalog.revision().await.unwrap(), revision, "there is no news");
    use_at(&theirs, 1_030);
    theirs.write(place.catalog.as_ref(), false).await;
    assert_eq!(known().await, Some(1_000_000), "half a minute later is no news");
    use_at(&ours, 1_100);
    ours.write(place.catalog.as_ref(), false).await;
    theirs.write(place.catalog.as_ref(), true).await;
    assert_eq!(known().await, Some(1_100_000), "the latest use counts, whoever writes last");
    assert!(theirs.news().is_empty(), "the catalog knows a later one");
}
