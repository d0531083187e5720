use futures::stream;
use next::memory::InMemory;
use object_store::{ObjectStoreExt, WriteMultipart};

use super::*;

fn remote() -> Remote {
    Remote(Arc::new(InMemory::new()))
}

async fn names(found: BoxStream<'static, Result<ObjectMeta>>) -> Vec<String> {
    found.map_ok(|object| object.location.to_string()).try_collect().await.unwrap()
}

#[tokio::test]
async fn bytes_go_there_and_come_back() {
    let store = remote();
    let at = Path::from("a/b=c d/é.parquet");
    store.put(&at, PutPayload::from_iter([Bytes::from("one "), Bytes::from("two")])).await.unwrap();
    assert_eq!(store.get(&at).await.unwrap().bytes().await.unwrap(), "one two");
    assert_eq!(store.get_range(&at, 4..7).await.unwrap(), "two");
    assert_eq!(store.get_ranges(&at, &[0..1, 4..5]).await.unwrap(), ["o", "t"]);
    let options = GetOptions { range: Some(GetRange::Suffix(2)), ..GetOptions::default() };
    assert_eq!(store.get_opts(&at, options).await.unwrap().bytes().await.unwrap(), "wo");
    let head = store.head(&at).await.unwrap();
    assert_eq!((head.location, head.size), (at.clone(), 7));
    let copy = Path::from("copy");
    store.copy(&at, &copy).await.unwrap();
    assert_eq!(store.get(&copy).await.unwrap().bytes().await.unwrap(), "one two");
}

#[tokio::test]
async fn parts_become_one_object() {
    let (store, at) = (remote(), Path::from("parts"));
    let mut upload = WriteMultipart::new(store.put_multipart(&at).await.unwrap());
    upload.write(b"one ");
    upload.write(b"two");
    upload.finish().await.unwrap();
    assert_eq!(store.get(&at).await.unwrap().bytes().await.unwrap(), "one two");
}

#[tokio::test]
async fn what_is_there_is_listed_and_what_is_deleted_is_not() {
    let store = remote();
    for name in ["t/1", "t/2", "t/sub/3", "u/4"] {
        store.put(&Path::from(name), PutPayload::from("x")).await.unwrap();
    }
    let table = Path::from("t");
    assert_eq!(names(store.list(Some(&table))).await, ["t/1", "t/2", "t/sub/3"]);
    assert_eq!(names(store.list_with_offset(Some(&table), &Path::from("t/1"))).await, ["t/2", "t/sub/3"]);
    let listed = store.list_with_delimiter(Some(&table)).await.unwrap();
    assert_eq!((listed.objects.len(), listed.common_prefixes), (2, vec![Path::from("t/sub")]));
    let gone = stream::iter(["t/1", "t/2"].map(|name| Ok(Path::from(name)))).boxed();
    let gone: Vec<_> = store.delete_stream(gone).try_collect().await.unwrap();
    assert_eq!(gone, [Path::from("t/1"), Path::from("t/2")]);
    assert_eq!(names(store.list(None)).await, ["t/sub/3", "u/4"]);
}

#[tokio::test]
async fn what_callers_tell_apart_stays_apart() {
    let (store, at) = (remote(), Path::from("x"));
    assert!(matches!(store.head(&at).await, Err(Error::NotFound { .. })));
    let create = || store.put_opts(&at, PutPayload::from("1"), PutMode::Create.into());
    let first = create().await.unwrap();
    assert!(matches!(create().await, Err(Error::AlreadyExists { .. })));
    let update = |e_tag: Option<String>| {
        let mode = PutMode::Update(UpdateVersion { e_tag, version: None });
        store.put_opts(&at, PutPayload::from("2"), mode.into())
    };
    update(first.e_tag.clone()).await.unwrap();
    assert!(matches!(update(first.e_tag).await, Err(Error::Precondition { .. })));
    let mut options = PutOptions::default();
    options.attributes.insert(object_store::Attribute::ContentType, "text/plain".into());
    let refused = store.put_opts(&at, PutPayload::from("3"), options).await;
    assert!(matches!(refused, Err(Error::NotSupported { .. })));
}
