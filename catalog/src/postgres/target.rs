//! What a URL of Postgres names.

use std::net::IpAddr;
use std::path::Path;

use percent_encoding::percent_decode_str;
use sqlx::ConnectOptions as _;
use sqlx::postgres::{PgConnectOptions, PgSslMode};
use url::Url;

use crate::{Error, ErrorKind, Result};

/// Where the catalog is when the URL does not say.
const SCHEMA: &str = "millrace";
/// How long the name of a schema may be, in bytes: Postgres cuts names at 63, and we put some before it.
const SCHEMA_BYTES_MAX: usize = 40;
const PORT: u16 = 5432;

/// Not `Debug`: it holds the password.
pub(crate) struct Target {
    pub(crate) connect: PgConnectOptions,
    /// The schema of the catalog: a plain name that needs no quotes.
    pub(crate) schema: String,
    /// Server, database and schema, for messages.
    pub(crate) place: String,
    /// The name of a server that is not this machine.
    pub(crate) remote: bool,
    pub(crate) ssl_mode: PgSslMode,
}

impl Target {
    pub(crate) fn parse(url: &str) -> Result<Self> {
        let invalid = |why: String| {
            Error::new(ErrorKind::Invalid, format!("cannot use the URL of the catalog on Postgres: {why}"))
        };
        let url =
            Url::parse(url).map_err(|e| invalid(format!("{e}; it is postgres://user:password@host:5432/database")))?;
        if !["postgres", "postgresql"].contains(&url.scheme()) {
            return Err(invalid("it begins with postgres://".to_owned()));
        }
        let decoded = |part: &str, what: &str| match percent_decode_str(part).decode_utf8() {
            Ok(text) if !text.contains('\0') => Ok(text.into_owned()),
            _ => Err(invalid(format!("the {what} is no text"))),
        };
        let user = decoded(url.username(), "user")?;
        let database = decoded(url.path().trim_start_matches('/'), "database")?;
        if user.is_empty() || database.is_empty() {
            return Err(invalid(
                "it names a user and a database: postgres://user:password@host:5432/database".to_owned(),
            ));
        }
        let mut host = decoded(url.host_str().unwrap_or_default(), "host")?;
        let port = url.port().unwrap_or(PORT);
        let mut schema = SCHEMA.to_owned();
        let mut ssl_mode = PgSslMode::Prefer;
        let mut connect = PgConnectOptions::new_without_pgpass()
            .username(&user)
            .database(&database)
            .port(port)
            .application_name("millrace")
            .disable_statement_logging();
        if let Some(password) = url.password() {
            connect = connect.password(&decoded(password, "password")?);
        }
        for (key, value) in url.query_pairs() {
            connect = match &*key {
                "schema" => {
                    schema = checked_schema(&value).map_err(invalid)?;
                    connect
                }
                "sslmode" => {
                    ssl_mode = value.parse().map_err(|_| {
                        invalid("sslmode is disable, allow, prefer, require, verify-ca or verify-full".to_owned())
                    })?;
                    connect
                }
                "sslrootcert" | "sslcert" | "sslkey" if !Path::new(&*value).is_file() => {
                    return Err(invalid(format!("{key} names a file with a certificate that is not there")));
                }
                "sslrootcert" => connect.ssl_root_cert(&*value),
                "sslcert" => connect.ssl_client_cert(&*value),
                "sslkey" => connect.ssl_client_key(&*value),
                "host" => {
                    host = value.into_owned();
                    connect
                }
                "application_name" => connect.application_name(&value),
                other => return Err(invalid(format!("{other:?} is unknown: see the documentation"))),
            };
        }
        if host.is_empty() {
            return Err(invalid("it names no host".to_owned()));
        }
        let bare = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let place = format!("{host}:{port}/{database}, schema {schema}");
        let connect = connect.host(&bare).ssl_mode(ssl_mode);
        Ok(Self { connect, schema, place, remote: is_remote(&bare), ssl_mode })
    }
}

fn checked_schema(name: &str) -> std::result::Result<String, String> {
    let plain = name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
    let begins = name.bytes().next().is_some_and(|b| b.is_ascii_lowercase());
    let theirs = name.starts_with("pg_") || name == "information_schema";
    if plain && begins && !theirs && name.len() <= SCHEMA_BYTES_MAX {
        return Ok(name.to_owned());
    }
    Err(format!(
        "a schema is 1 to {SCHEMA_BYTES_MAX} of a-z, 0-9 and _, begins with a letter, and is none of Postgres itself"
    ))
}

/// False for this machine, and for a Unix socket.
fn is_remote(host: &str) -> bool {
    !host.starts_with('/') && host != "localhost" && !host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}
