//! Object stores by URL, for whatever keeps something in one: an S3 bucket, or a folder for development.
//!
//! A URL may hold a password, so no message repeats more of it than its bucket and prefix, or the names of its parameters.
//! Reading the same settings in each adapter was the alternative, and with it a second place to forget a time limit.
//!
//! It must never know what is stored.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey, S3ConditionalPut};
use object_store::client::SpawnedReqwestConnector;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{BackoffConfig, ClientConfigKey, ClientOptions, ObjectStore, ObjectStoreExt, PutMode, PutOptions};
use object_store::{Error as StoreError, PutPayload, RetryConfig};
use percent_encoding::percent_decode_str;
use tokio::runtime::Handle;
use url::Url;
use uuid::Uuid;

/// The version of the library that these stores are of.
pub use object_store_next as object_store;

const FORMS: &str = "write s3://bucket/prefix, with ?endpoint=https://host:port&region=name for anything but AWS, and \
                     allow_http=true for a plain endpoint; keys come from AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY. \
                     file:///folder is for one process and development";

/// After how long one request is given up, and how long the client repeats it; whoever uses it repeats above that.
const REQUEST_MAX: Duration = Duration::from_secs(15);
const CONNECT_MAX: Duration = Duration::from_secs(5);

/// Why an object store cannot be used. No message repeats a password.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The URL is wrong: correct it.
    #[error("{0}")]
    Invalid(String),
    /// The object store does not do what it must: use another.
    #[error("{0}")]
    Refused(String),
    /// It did not answer, or not as asked: try again, or look at it.
    #[error("{message}")]
    Retry {
        /// What was attempted.
        message: String,
        /// What came of it.
        source: StoreError,
    },
}

impl Error {
    /// What a person has to do about it, where the server says enough to know: by the codes that servers of S3 have in common,
    /// <https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html>.
    pub fn cure(&self) -> Option<&'static str> {
        const CURES: [(&str, &str); 5] = [
            (
                "RequestTimeTooSkewed",
                "let a time service set the clocks of both machines: they are too far apart for signatures",
            ),
            ("SignatureDoesNotMatch", "correct the secret key, in the URL or in AWS_SECRET_ACCESS_KEY"),
            ("InvalidAccessKeyId", "correct the access key, in the URL or in AWS_ACCESS_KEY_ID"),
            ("AccessDenied", "allow this key to read, write and delete objects below the prefix"),
            ("NoSuchBucket", "make the bucket, or correct its name in the URL"),
        ];
        let Self::Retry { source, .. } = self else { return None };
        let said = source.to_string();
        CURES.into_iter().find_map(|(code, cure)| said.contains(code).then_some(cure))
    }
}

/// The result of every call here.
pub type Result<T> = std::result::Result<T, Error>;

/// An object store, and where in it.
pub struct Target {
    /// Its client, which holds the keys.
    pub store: Arc<dyn ObjectStore>,
    /// Where in it.
    pub prefix: Path,
    /// Whether it can replace an object only if it is still the same.
    pub conditional: bool,
    /// What may be shown: the URL without user, password and parameters.
    pub name: String,
}

impl fmt::Debug for Target {
    /// Without the client, which has the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Target").field(&self.name).finish()
    }
}

impl Target {
    /// Reads the URL and makes the client; asks nobody: `s3://bucket/prefix[?endpoint=…&region=…&allow_http=true]`, with keys
    /// from the standard `AWS_*` variables or from the user part, or `file:///folder` for one process.
    ///
    /// # Errors
    /// [`Error::Invalid`] when the URL is none of these, [`Error::Retry`] when the folder or the client cannot be made.
    pub fn parse(url: &str) -> Result<Self> {
        Self::of(url, None)
    }

    /// The same with all requests on `runtime`, whoever makes them: for a store that is shared by threads of several runtimes.
    /// A connection that one of them opened would end with it, and fail whoever uses it next.
    ///
    /// # Errors
    /// As of [`Target::parse`].
    pub fn parse_on(url: &str, runtime: Handle) -> Result<Self> {
        Self::of(url, Some(runtime))
    }

    fn of(url: &str, runtime: Option<Handle>) -> Result<Self> {
        // The cause of a URL that cannot be read would repeat parts of it.
        let url = Url::parse(url).map_err(|_| invalid("it is none"))?;
        if url.fragment().is_some() {
            return Err(invalid("it has a fragment"));
        }
        match url.scheme() {
            "s3" => on_s3(&url, runtime),
            "file" => in_folder(&url),
            other => Err(invalid(&format!("its scheme is {other}"))),
        }
    }

    /// Makes sure that objects here can be written, read, not written twice, and removed. For `doctor`.
    ///
    /// # Errors
    /// [`Error::Retry`] with what was not possible, [`Error::Refused`] when the object store writes an object that is there
    /// already: then nothing would keep two writers apart.
    pub async fn check(&self) -> Result<()> {
        const TEXT: &str = "an object of a check, which may be removed";
        let path = self.prefix.clone().join(format!("check-{}", Uuid::new_v4()));
        let failed = |what: &str, source| Error::Retry {
            message: format!(
                "cannot {what} objects in {}: check the bucket, the keys and their permissions",
                self.name
            ),
            source,
        };
        let put = || self.store.put_opts(&path, PutPayload::from(TEXT), PutOptions::from(PutMode::Create));
        put().await.map_err(|error| failed("write", error))?;
        let twice = put().await;
        let found = async { self.store.get(&path).await?.bytes().await }.await;
        let removed = self.store.delete(&path).await;
        match twice {
            Err(StoreError::AlreadyExists { .. }) => {}
            Err(error) => return Err(failed("conditionally write", error)),
            Ok(_) => {
                return Err(Error::Refused(format!(
                    "{} wrote an object although it was there: without conditional puts nothing keeps two writers apart, use \
                     an object store that has them",
                    self.name
                )));
            }
        }
        if found.map_err(|error| failed("read", error))? != TEXT {
            return Err(Error::Refused(format!(
                "{} answers with other bytes than were just written: the object store must be consistent",
                self.name
            )));
        }
        removed.map_err(|error| failed("remove", error))
    }
}

fn on_s3(url: &Url, runtime: Option<Handle>) -> Result<Target> {
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
    if let Some(runtime) = runtime {
        builder = builder.with_http_connector(SpawnedReqwestConnector::new(runtime));
    }
    let client = client.with_allow_http(allow_http);
    let store = builder.with_client_options(client).build();
    let message = || format!("cannot make a client for s3://{bucket}");
    let store = store.map_err(|source| Error::Retry { message: message(), source })?;
    Ok(Target { store: Arc::new(store), name: format!("s3://{bucket}/{prefix}"), prefix, conditional: true })
}

fn in_folder(url: &Url) -> Result<Target> {
    if url.query().is_some() || url.host_str().is_some_and(|host| !host.is_empty()) {
        return Err(invalid("file:///folder has neither host nor parameters"));
    }
    let folder: PathBuf = url.to_file_path().map_err(|()| invalid("its path is no folder of this machine"))?;
    let named = || format!("file://{}", folder.display());
    let failed = |source| Error::Retry { message: format!("cannot use {}", named()), source };
    let generic = |error| StoreError::Generic { store: "folder", source: Box::new(error) };
    std::fs::create_dir_all(&folder).map_err(|error| failed(generic(error)))?;
    let store = LocalFileSystem::new_with_prefix(&folder).map_err(failed)?.with_fsync(true);
    Ok(Target { store: Arc::new(store), prefix: Path::default(), conditional: false, name: named() })
}

fn prefix(url: &Url) -> Result<Path> {
    Path::from_url_path(url.path().trim_matches('/')).map_err(|_| invalid("its prefix is no path of objects"))
}

fn decoded(part: &str) -> Result<String> {
    let text = percent_decode_str(part).decode_utf8().map_err(|_| invalid("its user or password is no text"))?;
    Ok(text.into_owned())
}

fn invalid(what: &str) -> Error {
    Error::Invalid(format!("cannot use the URL of an object store: {what}; {FORMS}"))
}

#[cfg(test)]
mod tests;
