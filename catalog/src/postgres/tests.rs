use crate::ErrorKind;
use crate::postgres::judge_code;
use crate::postgres::target::Target;

fn check_refused(url: &str, why: &str) {
    let Err(error) = Target::parse(url) else { panic!("{url} is taken") };
    assert_eq!(error.kind(), ErrorKind::Invalid, "{url}");
    let text = error.to_string();
    assert!(text.contains(why), "{url}: {text}");
    assert!(!text.contains("s3cret"), "{text}");
}

#[test]
fn urls_that_cannot_be_used_are_refused_without_their_password() {
    check_refused("", "postgres://user:password@host");
    check_refused("mysql://u:s3cret@h/d", "begins with postgres://");
    check_refused("postgres://u:s3cret@h:port/d", "invalid port");
    check_refused("postgres://:s3cret@h/d", "names a user");
    check_refused("postgres://u:s3cret@h", "a database");
    check_refused("postgres://u:s3cret@/d", "host");
    check_refused("postgres://u:s3cret%00@h/d", "password is no text");
    check_refused("postgres://u:s3cret%ff@h/d", "password is no text");
    check_refused("postgres://u:s3cret@h/d?sslmode=maybe", "sslmode is");
    check_refused("postgres://u:s3cret@h/d?colour=red", "\"colour\" is unknown");
    check_refused(
        "postgres://u:s3cret@h/d?sslmode=verify-full&sslrootcert=/nowhere/ca.pem",
        "sslrootcert names a file",
    );
    let long = "a".repeat(41);
    for schema in ["", "A", "9a", "a-b", "pg_catalog", "information_schema", "a;drop schema b", "a\"b", &long] {
        check_refused(&format!("postgres://u:s3cret@h/d?schema={schema}"), "a schema is");
    }
}

#[test]
fn what_a_url_names_is_taken_as_it_is_meant() {
    let Ok(target) =
        Target::parse("postgresql://us%40er:p%40ss%2F@db.example:6543/a%20b?schema=x_1&sslmode=verify-full")
    else {
        panic!("it is good");
    };
    assert_eq!(target.connect.get_username(), "us@er");
    assert_eq!(target.connect.get_database(), Some("a b"));
    assert_eq!((target.connect.get_host(), target.connect.get_port()), ("db.example", 6543));
    assert_eq!(target.place, "db.example:6543/a b, schema x_1");
    assert!(target.remote);
    for here in ["localhost", "127.0.0.1", "[::1]"] {
        let Ok(target) = Target::parse(&format!("postgres://u@{here}/d")) else { panic!("{here} is good") };
        assert!(!target.remote, "{here}");
        assert_eq!((target.schema.as_str(), target.connect.get_port()), ("millrace", 5432));
    }
    let Ok(socket) = Target::parse("postgres://u@localhost/d?host=/run/postgresql") else { panic!("it is good") };
    assert!(!socket.remote);
    assert_eq!(socket.connect.get_host(), "/run/postgresql");
}

#[test]
fn codes_of_postgres_say_who_is_to_act() {
    for code in ["08006", "25006", "25P03", "40001", "53100", "53300", "55P03", "57014", "57P01", "57P03", "0A000"] {
        assert_eq!(judge_code(code).kind, ErrorKind::Retry, "{code}");
    }
    for code in ["28P01", "28000", "3D000", "42501", "42P01", "42703", "26000"] {
        assert_eq!(judge_code(code).kind, ErrorKind::Refused, "{code}");
    }
    assert_eq!(judge_code("XX001").kind, ErrorKind::Corrupt);
    // The server may have committed before it said these.
    for code in ["57P01", "08006", "58030", "XX000"] {
        assert!(!judge_code(code).undone, "{code}");
    }
}
