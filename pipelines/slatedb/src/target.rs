//! Where state is: the URL. It may hold a password, so no message repeats more of it than its keys.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use percent_encoding::percent_decode_str;
use slatedb::object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey, S3ConditionalPut};
use slatedb::object_store::local::LocalFileSystem;
use slatedb::object_store::path::Path;
use slatedb::object_store::{BackoffConfig, ClientConfigKey, ClientOptions, ObjectStore, RetryConfig};
use url::Url;

use crate::{Error, Result};

const FORMS: &str = "write s3://bucket/prefix, with ?endpoint=https://host:port&region=name for anything but AWS, and \
                     allow_http=true for a plain endpoint; keys come from AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY. \
                     file:///folder is for one process and development";

/// After how long one request is given up, and how long the client repeats it; SlateDB repeats above that.
const REQUEST_MAX: Duration = Duration::from_secs(15);
const CONNECT_MAX: Duration = Duration::from_secs(5);

/// An object store, and where in it.
pub(crate) struct Target {
    pub(crate) store: Arc<dyn ObjectStore>,
    pub(crate) prefix: Path,
    /// Whether it can replace an object only if it is still the same.
    pub(crate) conditional: bool,
    pub(crate) name: Name,
}

/// What may be shown of a target.
pub(crate) struct Name(pub(crate) String);

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Target {
    /// Without the client, which has the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Target").field(&self.name.0).finish()
    }
}

impl Target {
    /// Reads the URL and makes the client; asks nobody.
    pub(crate) fn parse(url: &str) -> Result<Self> {
        // The cause of a URL that cannot be read would repeat parts of it.
        let url = Url::parse(url).map_err(|_| invalid("it is none"))?;
        if url.fragment().is_some() {
            return Err(invalid("it has a fragment"));
        }
        match url.scheme() {
            "s3" => on_s3(&url),
            "file" => in_folder(&url),
            other => Err(invalid(&format!("its scheme is {other}"))),
        }
    }
}

fn on_s3(url: &Url) -> Result<Target> {
    let bucket = url.host_str().filter(|bucket| !bucket.is_empty()).ok_or_else(|| invalid("it names no bucket"))?;
    if url.port().is_some() {
        return Err(invalid("it has a port: the host of an s3 URL is the bucket, the endpoint is a parameter"));
    }
    let prefix = prefix(url)?;
    let mut builder = AmazonS3Builder::from_env()
        .with_bucket_name(bucket)
        .with_conditional_put(S3ConditionalPut::ETagMatch)
        .with_retry(RetryConfig {
            backoff: BackoffConfig {
                init_backoff: Duration::from_millis(50),
                max_backoff: Duration::from_secs(1),
                base: 2.0,
            },
            max_retries: 3,
            retry_timeout: REQUEST_MAX,
        });
    let mut client = ClientOptions::new().with_timeout(REQUEST_MAX).with_connect_timeout(CONNECT_MAX);
    if !url.username().is_empty() {
        let password = url.password().ok_or_else(|| invalid("it has a user without a password"))?;
        builder = builder.with_access_key_id(decoded(url.username())?).with_secret_access_key(decoded(password)?);
    } else if url.password().is_some() {
        return Err(invalid("it has a password without a user"));
    }
    let (mut endpoint, mut allow_http) = (builder.get_config_value(&AmazonS3ConfigKey::Endpoint), false);
    for (name, value) in url.query_pairs() {
        match name.as_ref() {
            "endpoint" => endpoint = Some(value.into_owned()),
            "region" => builder = builder.with_region(value),
            "allow_http" => {
                allow_http = value.parse().map_err(|_| invalid("allow_http is true or false"))?;
            }
            "virtual_hosted_style" => {
                let style = value.parse().map_err(|_| invalid("virtual_hosted_style is true or false"))?;
                builder = builder.with_virtual_hosted_style_request(style);
            }
            _ => return Err(invalid("its parameters are endpoint, region, allow_http and virtual_hosted_style")),
        }
    }
    if let Some(endpoint) = endpoint {
        let parsed = Url::parse(&endpoint).map_err(|_| invalid("its endpoint is no URL: write https://host:port"))?;
        match parsed.scheme() {
            "https" => {}
            "http" if allow_http => {
                // Certificates are not looked for where none is used: a small image has none, and that would be an error.
                client = client.with_config(ClientConfigKey::NoSystemCertificates, "true");
            }
            "http" => {
                return Err(invalid("its endpoint is plain HTTP, which shows everything: allow_http=true allows that"));
            }
            _ => return Err(invalid("its endpoint begins neither with https:// nor with http://")),
        }
        builder = builder.with_endpoint(endpoint);
    }
    let client = client.with_allow_http(allow_http);
    let store = builder.with_client_options(client).build();
    let store = store.map_err(|error| Error::retry(format!("cannot make a client for s3://{bucket}"), error))?;
    Ok(Target { store: Arc::new(store), name: Name(format!("s3://{bucket}/{prefix}")), prefix, conditional: true })
}

fn in_folder(url: &Url) -> Result<Target> {
    if url.query().is_some() || url.host_str().is_some_and(|host| !host.is_empty()) {
        return Err(invalid("file:///folder has neither host nor parameters"));
    }
    let folder: PathBuf = url.to_file_path().map_err(|()| invalid("its path is no folder of this machine"))?;
    let named = || format!("file://{}", folder.display());
    std::fs::create_dir_all(&folder).map_err(|error| Error::retry(format!("cannot make {}", named()), error))?;
    let store = LocalFileSystem::new_with_prefix(&folder)
        .map_err(|error| Error::retry(format!("cannot use {}", named()), error))?
        .with_fsync(true);
    Ok(Target { store: Arc::new(store), prefix: Path::default(), conditional: false, name: Name(named()) })
}

fn prefix(url: &Url) -> Result<Path> {
    Path::from_url_path(url.path().trim_matches('/')).map_err(|_| invalid("its prefix is no path of objects"))
}

fn decoded(part: &str) -> Result<String> {
    let text = percent_decode_str(part).decode_utf8().map_err(|_| invalid("its user or password is no text"))?;
    Ok(text.into_owned())
}

fn invalid(what: &str) -> Error {
    Error::invalid(format!("cannot use the URL of the job state: {what}; {FORMS}"))
}

#[cfg(test)]
mod tests;
