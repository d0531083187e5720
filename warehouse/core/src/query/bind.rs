//! From what a caller sent to values of the declared types.

use std::collections::BTreeMap;

use millrace_events::{ID_BYTES_MAX, parse_rfc3339};

use super::{NamedQuery, Param, ParamType, Params, Value};
use crate::{Error, ErrorKind, Result};

/// The most that a text parameter may hold, in bytes: what an id may have.
pub const TEXT_PARAM_BYTES_MAX: usize = ID_BYTES_MAX;

/// How much of a wrong value an error repeats, in characters.
const ECHO_CHARS_MAX: usize = 40;

fn invalid(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Invalid, message)
}

impl NamedQuery {
    /// Checks what a caller sent, by name, and completes it with defaults. An empty value is one that was not sent.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] for a parameter that the query does not have, that comes twice, is missing or cannot
    /// have this value; the message names it and says what it takes.
    pub fn bind<'a>(&self, sent: impl IntoIterator<Item = (&'a str, &'a str)>) -> Result<Params> {
        let mut given = BTreeMap::new();
        for (name, text) in sent {
            let Some(param) = self.params.iter().find(|param| param.name == name) else {
                return Err(invalid(format!("{} has no parameter `{}`: {}", self.name, echo(name), self.takes())));
            };
            if given.insert(name, text).is_some() {
                return Err(invalid(format!("{name} comes twice: send it once, as {}", param.takes())));
            }
        }
        let mut params = Params::new();
        for param in &self.params {
            let value = match given.get(param.name.as_str()).filter(|text| !text.is_empty()) {
                Some(text) => param.value(text)?,
                None => param.default.clone().ok_or_else(|| {
                    invalid(format!("{} is missing: {} needs {}", param.name, self.name, param.takes()))
                })?,
            };
            params.insert(param.name.clone(), value);
        }
        Ok(params)
    }

    /// What it takes, in words.
    fn takes(&self) -> String {
        if self.params.is_empty() {
            return "it takes none".to_owned();
        }
        let params: Vec<String> =
            self.params.iter().map(|param| format!("{} ({})", param.name, param.takes())).collect();
        format!("it takes {}", params.join(", "))
    }
}

impl Param {
    pub(super) fn value(&self, text: &str) -> Result<Value> {
        let value = match self.kind {
            ParamType::Text => {
                let is_allowed = self.one_of.is_empty() || self.one_of.iter().any(|allowed| allowed == text);
                (is_allowed && text.len() <= TEXT_PARAM_BYTES_MAX).then(|| Value::Text(text.to_owned()))
            }
            ParamType::Timestamp => time(text).map(Value::Timestamp),
            ParamType::Integer => {
                let (least, greatest) = self.range.unwrap_or((i64::MIN, i64::MAX));
                text.parse().ok().filter(|n| (least..=greatest).contains(n)).map(Value::Integer)
            }
        };
        value.ok_or_else(|| invalid(format!("{} cannot be `{}`: it takes {}", self.name, echo(text), self.takes())))
    }

    /// What it takes, in words.
    fn takes(&self) -> String {
        match (self.kind, self.range) {
            (ParamType::Text, _) if !self.one_of.is_empty() => format!("one of {}", self.one_of.join(", ")),
            (ParamType::Text, _) => format!("text of at most {TEXT_PARAM_BYTES_MAX} bytes"),
            (ParamType::Timestamp, _) => {
                "a time as RFC 3339 with its zone, such as 2026-01-31T12:00:00Z, or a date".to_owned()
            }
            (ParamType::Integer, Some((least, greatest))) => format!("a whole number from {least} to {greatest}"),
            (ParamType::Integer, None) => "a whole number".to_owned(),
        }
    }
}

/// A time, or the midnight in UTC of a date.
fn time(text: &str) -> Option<i64> {
    let is_date = text.len() == "2026-01-31".len();
    if is_date { parse_rfc3339(&format!("{text}T00:00:00Z")).ok() } else { parse_rfc3339(text).ok() }
}

/// The beginning of what was sent.
fn echo(text: &str) -> String {
    match text.char_indices().nth(ECHO_CHARS_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
