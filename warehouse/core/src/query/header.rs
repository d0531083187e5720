//! Reads the comments that a file begins with.

use super::{NamedQuery, Param, ParamType, Value};
use crate::{Error, ErrorKind, Result};

/// Taken by the API for itself, so no parameter may be called so.
const RESERVED: &str = "format";

impl NamedQuery {
    /// Reads a file: comments, then one statement.
    ///
    /// ```sql
    /// -- Counts events by hour.
    /// --
    /// -- $from: timestamp, optional. Only what happened at this time or later.
    /// -- $by: text, default likes, one of likes views. What to count.
    /// -- $limit: integer, default 20, from 1 to 100. How many rows at most.
    /// -- $post_id: text, required. The post.
    /// SELECT …
    /// ```
    ///
    /// A line that begins with `$` is a parameter: its type, then `required`, `optional` or `default` with a value,
    /// then what it is limited to, then after a full stop what it says. All other comments of the header say what the
    /// query answers.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] when the header does not read so, or names other parameters than the SQL.
    pub fn parse(name: &str, text: &str) -> Result<NamedQuery> {
        let invalid = |what: String| Error::new(ErrorKind::Invalid, format!("query {name}: {what}"));
        let mut doc = Vec::new();
        let mut params: Vec<Param> = Vec::new();
        let mut rest = text;
        while let Some(comment) = rest.trim_start().strip_prefix("--") {
            let (line, after) = comment.split_once('\n').unwrap_or((comment, ""));
            rest = after;
            let line = line.trim();
            if let Some(declared) = line.strip_prefix('$') {
                params.push(param(declared).map_err(|what| invalid(format!("`${declared}`: {what}")))?);
            } else if !line.is_empty() {
                doc.push(line);
            }
        }
        let query = NamedQuery { name: name.to_owned(), doc: doc.join(" "), params, sql: rest.trim().to_owned() };
        query.check().map_err(invalid)?;
        Ok(query)
    }

    fn check(&self) -> std::result::Result<(), String> {
        if self.doc.is_empty() || self.sql.is_empty() {
            return Err("write what it answers as a comment, then the statement".to_owned());
        }
        for (nth, param) in self.params.iter().enumerate() {
            if self.params[..nth].iter().any(|earlier| earlier.name == param.name) {
                return Err(format!("${} is declared twice", param.name));
            }
            if !placeholders(&self.sql).any(|used| used == param.name) {
                return Err(format!("${} is declared but not used", param.name));
            }
        }
        match placeholders(&self.sql).find(|used| !self.params.iter().any(|param| param.name == *used)) {
            Some(unknown) => Err(format!("${unknown} is used but not declared")),
            None => Ok(()),
        }
    }
}

/// What follows the comments that a file begins with.
pub(super) fn statement(text: &str) -> &str {
    let mut rest = text.trim();
    while rest.starts_with("--") {
        rest = rest.split_once('\n').map_or("", |(_, after)| after).trim_start();
    }
    rest
}

/// The names that follow a `$`.
pub(super) fn placeholders(sql: &str) -> impl Iterator<Item = &str> {
    sql.split('$').skip(1).map(|after| {
        let end = after.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(after.len());
        &after[..end]
    })
}

fn param(declared: &str) -> std::result::Result<Param, String> {
    const SHAPE: &str = "write `$name: type, required|optional|default VALUE[, one of A B|from A to B]. What it says.`";
    let (name, rest) = declared.split_once(": ").ok_or(SHAPE)?;
    let (spec, doc) = rest.split_once(". ").ok_or(SHAPE)?;
    let mut parts = spec.split(", ");
    let kind = match parts.next() {
        Some("text") => ParamType::Text,
        Some("timestamp") => ParamType::Timestamp,
        Some("integer") => ParamType::Integer,
        _ => return Err("its type must be text, timestamp or integer".to_owned()),
    };
    let presence = parts.next().ok_or(SHAPE)?;
    let (one_of, range) = limits(kind, parts.next())?;
    if parts.next().is_some() || name == RESERVED || !is_name(name) {
        return Err(SHAPE.to_owned());
    }
    let mut param = Param { name: name.to_owned(), kind, doc: doc.trim().to_owned(), default: None, one_of, range };
    param.default = match presence {
        "required" => None,
        "optional" => Some(Value::Null),
        _ => {
            let default = presence.strip_prefix("default ").ok_or(SHAPE)?;
            Some(param.value(default).map_err(|e| e.to_string())?)
        }
    };
    Ok(param)
}

type Limits = (Vec<String>, Option<(i64, i64)>);

fn limits(kind: ParamType, text: Option<&str>) -> std::result::Result<Limits, String> {
    let range = |text: &str| {
        let (least, greatest) = text.strip_prefix("from ")?.split_once(" to ")?;
        Some((least.parse::<i64>().ok()?, greatest.parse::<i64>().ok()?)).filter(|(a, b)| a <= b)
    };
    match (kind, text) {
        (ParamType::Integer, Some(text)) if range(text).is_some() => Ok((Vec::new(), range(text))),
        (ParamType::Integer, _) => Err("an integer needs bounds: `from A to B`".to_owned()),
        (_, None) => Ok((Vec::new(), None)),
        (ParamType::Text, Some(text)) => {
            let values = text.strip_prefix("one of ").ok_or("text can be limited by `one of A B` only")?;
            Ok((values.split(' ').map(str::to_owned).collect(), None))
        }
        (ParamType::Timestamp, Some(_)) => Err("a timestamp cannot be limited".to_owned()),
    }
}

fn is_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
}
