//! A JSON document that fits into the catalog.

use std::fmt;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::{DOCUMENT_BYTES_MAX, Error, ErrorKind, Result};

/// A JSON document of at most [`DOCUMENT_BYTES_MAX`] bytes. It is kept as the text that it is, so that what is read is what was
/// written, to the last digit. Its `Debug` tells only how long it is: documents may hold secrets.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Document(Arc<str>);

impl Document {
    /// The document of a value.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] when it is no JSON or too long.
    pub fn of<T: Serialize + ?Sized>(value: &T) -> Result<Self> {
        let text = serde_json::to_string(value)
            .map_err(|e| Error::new(ErrorKind::Invalid, format!("cannot make a document of this: {e}")))?;
        Self::parse(&text)
    }

    /// The document of a text.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] when it is no JSON, too long, or nested deeper than 127 levels.
    pub fn parse(text: &str) -> Result<Self> {
        if text.len() > DOCUMENT_BYTES_MAX {
            let bytes = text.len();
            let why = format!("a document of {bytes} bytes is too long: at most {DOCUMENT_BYTES_MAX} fit");
            return Err(Error::new(ErrorKind::Invalid, why));
        }
        // As a value, for what is refused then would be refused to each reader.
        serde_json::from_str::<Value>(text)
            .map_err(|e| Error::new(ErrorKind::Invalid, format!("this is not a JSON document: {}", place(&e))))?;
        Ok(Self(text.into()))
    }

    /// Its text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The value that it is the document of.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`] when it is the document of something else.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T> {
        serde_json::from_str(&self.0)
            .map_err(|e| Error::new(ErrorKind::Corrupt, format!("the document cannot be read: {}", place(&e))))
    }
}

/// What is wrong and where, without the value: it may be secret, and serde repeats values.
fn place(error: &serde_json::Error) -> String {
    let what = match error.classify() {
        serde_json::error::Category::Data => {
            // Names of fields are in backquotes alone; a value of the wrong type would be repeated.
            let text = error.to_string();
            if text.starts_with("unknown field") || text.starts_with("missing field") || text.starts_with("duplicate") {
                return text;
            }
            "a value has another type than it should"
        }
        serde_json::error::Category::Eof => "it ends too early",
        _ => "it is not JSON, too deep, or has a number that is too large",
    };
    format!("{what}, at line {} column {}", error.line(), error.column())
}

impl fmt::Debug for Document {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Document({} bytes)", self.0.len())
    }
}
