use super::*;

fn check(url: &str, name: &str, prefix: &str) {
    let target = Target::parse(url).unwrap_or_else(|error| panic!("{url}: {error}"));
    assert_eq!((target.name.as_str(), target.prefix.as_ref()), (name, prefix), "{url}");
}

fn refused(url: &str, because: &str) {
    let error = Target::parse(url).unwrap_err();
    assert!(matches!(error, Error::Invalid(_)), "{url}: {error}");
    assert!(error.to_string().contains(because), "{url}: {error}");
    assert!(!error.to_string().contains("secret"), "{error} repeats a password");
}

#[test]
fn s3_urls_name_a_bucket_and_a_prefix() {
    check("s3://bucket", "s3://bucket/", "");
    check("s3://bucket/a/b", "s3://bucket/a/b", "a/b");
    check("s3://bucket/a/b/?region=eu-central-1", "s3://bucket/a/b", "a/b");
    check("s3://key:secret@bucket/a?endpoint=http://127.0.0.1:9000&allow_http=true", "s3://bucket/a", "a");
    check("s3://key:se%2Fcret@bucket/a?endpoint=https://s3.example", "s3://bucket/a", "a");
}

#[test]
fn what_is_no_url_is_refused_with_the_forms() {
    refused("bucket/prefix", "write s3://bucket/prefix");
    refused("gs://bucket/prefix", "its scheme is gs");
    refused("s3:///prefix", "it names no bucket");
    refused("s3://bucket:9000/prefix", "it has a port");
    refused("s3://key@bucket/prefix", "a user without a password");
    refused("s3://key:secret@bucket/prefix?secret=1", "its parameters are");
    refused("s3://key:secret@bucket/prefix#part", "a fragment");
    refused("s3://key:secret@bucket/prefix?endpoint=http://127.0.0.1:9000", "allow_http=true");
    refused("s3://key:secret@bucket/prefix?endpoint=ftp://127.0.0.1:9000", "begins neither");
    refused("s3://key:secret@bucket/prefix?allow_http=maybe", "true or false");
    refused("file://host/folder", "neither host nor parameters");
    refused("file:///folder?x=1", "neither host nor parameters");
}

#[test]
fn nothing_shows_a_password() {
    let target = Target::parse("s3://key:secret@bucket/a?endpoint=http://127.0.0.1:9000&allow_http=true").unwrap();
    assert!(!format!("{target:?}").contains("secret"), "{target:?}");
}

#[tokio::test]
async fn a_store_is_checked_and_nothing_is_left() {
    let mut target = Target::parse("s3://bucket/a").unwrap();
    let store = Arc::new(object_store::memory::InMemory::new());
    target.store = store.clone();
    target.check().await.unwrap();
    assert!(store.list_with_delimiter(None).await.unwrap().common_prefixes.is_empty());
}
