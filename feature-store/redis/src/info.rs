//! The answer to `INFO`.

use millrace_feature_store::online::Result;
use redis::Value;

use crate::failure::{failed, retry};

/// What a server says about itself, by field.
pub(crate) struct Info {
    text: String,
}

impl Info {
    pub(crate) fn read(attempted: &'static str, address: &str, value: Option<Value>) -> Result<Self> {
        let text = match value {
            Some(Value::BulkString(text)) => String::from_utf8_lossy(&text).into_owned(),
            Some(Value::VerbatimString { text, .. }) => text,
            Some(Value::ServerError(error)) => return Err(failed(attempted, address, error.into())),
            _ => {
                return Err(retry(format!("cannot {attempted}: what Redis at {address} says about itself is no text")));
            }
        };
        Ok(Self { text })
    }

    pub(crate) fn get(&self, field: &str) -> Option<&str> {
        self.text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':')).map(str::trim_end)
    }
}
