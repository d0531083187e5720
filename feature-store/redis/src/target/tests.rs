use super::*;

#[track_caller]
fn check(url: &str, cluster: bool, tls: bool, addresses: &[&str]) {
    let target = Target::parse(url).unwrap_or_else(|e| panic!("{url}: {e}"));
    let found: Vec<String> = target.seeds.iter().map(address_of).collect();
    assert_eq!((target.cluster, target.tls(), &found[..]), (cluster, tls, &addresses.map_strings()[..]), "{url}");
}

trait MapStrings {
    fn map_strings(&self) -> Vec<String>;
}

impl MapStrings for &[&str] {
    fn map_strings(&self) -> Vec<String> {
        self.iter().map(|text| (*text).to_owned()).collect()
    }
}

#[test]
fn urls_of_one_server_and_of_clusters_are_read() {
    check("redis://localhost", false, false, &["localhost:6379"]);
    check("redis://127.0.0.1:7000/3", false, false, &["127.0.0.1:7000"]);
    check("rediss://user:p%40ss@redis.example:6380", false, true, &["redis.example:6380"]);
    check("redis://[::1]:7000", false, false, &["[::1]:7000"]);
    check("redis://h:1?cluster=true", true, false, &["h:1"]);
    check("redis-cluster://:secret@a:1,b:2,c", true, false, &["a:1", "b:2", "c:6379"]);
    check("rediss-cluster://a:1,b:2/0", true, true, &["a:1", "b:2"]);
}

#[test]
fn credentials_are_read_and_go_to_every_server() {
    let target = Target::parse("redis-cluster://us%3Aer:p%40ss@a:1,b:2").unwrap();
    for info in [&target.seeds[0], &target.seeds[1], &target.other("c", 3)] {
        assert_eq!(info.redis_settings().username(), Some("us:er"));
        assert_eq!(info.redis_settings().password(), Some("p@ss"));
    }
    assert_eq!(Target::parse("redis://h/7").unwrap().seeds[0].redis_settings().db(), 7);
}

#[test]
fn a_prefix_is_taken_as_it_stands() {
    for (url, prefix) in [
        ("redis://h:1", None),
        ("redis://h:1/2?prefix=shop:", Some("shop:")),
        ("redis-cluster://u:secret@h:1,g:1?cluster=true&prefix=a%b=c", Some("a%b=c")),
    ] {
        assert_eq!(Target::parse(url).unwrap().prefix.as_deref(), prefix, "{url}");
    }
}

#[test]
fn bad_urls_are_refused_without_repeating_them() {
    for url in [
        "secret",
        "http://user:secret@host",
        "redis://user:secret@",
        "redis://user:secret@host:port",
        "redis://user:secret@a:1,b:2",
        "redis://user:secret@host/x",
        "redis://user:secret@host#insecure",
        "redis://user:secret@host?cluster=maybe",
        "redis://user:secret@host?prefixes=secret",
        "redis-cluster://user:secret@host/3",
        "redis://:sec/ret@host",
        "redis://user:secret@0.0.0.0",
    ] {
        let Err(error) = Target::parse(url) else { panic!("{url} is taken") };
        let text = format!("{error} {error:?}");
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert!(!text.contains("secret") && !text.contains("ret@"), "{url}: {text}");
    }
}
