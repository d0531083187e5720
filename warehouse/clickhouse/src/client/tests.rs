use super::*;

fn server(url: &str) -> Result<Server> {
    Server::new(url, &ClickHouseOptions::default())
}

#[test]
fn a_url_says_where_and_who() {
    let check = |text: &str, url: &str, user: Option<&str>, password: Option<&str>, database: Option<&str>| {
        let found = Address::parse(text).unwrap();
        assert_eq!(found.url.as_str(), url, "{text}");
        assert_eq!((found.user.as_deref(), found.password.as_deref()), (user, password), "{text}");
        assert_eq!(found.database.as_deref(), database, "{text}");
    };
    check("clickhouse://host", "http://host:8123/", None, None, None);
    check("clickhouses://host/db", "https://host:8443/", None, None, Some("db"));
    check("clickhouse://host:9/", "http://host:9/", None, None, None);
    check("http://u@[::1]:8123", "http://[::1]:8123/", Some("u"), None, None);
    check("https://u:a%2Fb%40%3A%25%2B%26+=@h/d", "https://h/", Some("u"), Some("a/b@:%+&+="), Some("d"));
}

#[test]
fn a_url_that_cannot_be_read_says_how_and_nothing_secret() {
    for url in ["host:8123", "redis://u:hush@h", "http://u:hush@h/?a=b", "http://u:hush@/", "clickhouse://u:hush@h:x"] {
        let error = server(url).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{url}");
        let said = format!("{error} {error:?}");
        assert!(said.contains("clickhouse://USER:PASSWORD@HOST") && !said.contains("hush"), "{url}: {said}");
    }
}

#[test]
fn names_that_need_quotes_are_refused() {
    for name in ["", "a b", "a`b", "-a", "a;b", &"x".repeat(65)] {
        let database = ClickHouseOptions { database: name.to_owned(), ..ClickHouseOptions::default() };
        let cluster = ClickHouseOptions { cluster: Some(name.to_owned()), ..ClickHouseOptions::default() };
        for options in [database, cluster] {
            let error = Server::new("clickhouse://h", &options).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Invalid, "{name}");
        }
    }
}

#[test]
fn what_a_server_shows_of_itself_has_no_password() {
    let server = server("clickhouse://u:hush@h/d").unwrap();
    assert_eq!(format!("{server:?}"), r#"Server { place: "h:8123", database: "d", .. }"#);
}
