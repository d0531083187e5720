//! Tracking plans: what the properties of an event must look like, as JSON Schema, and what becomes of those that do not.
//!
//! A plan is compiled once, when it is decided. An event is looked up by its folded name, or for a page and a screen by the
//! name of the call; one without a plan pays for that and no more, and nothing is built of its properties. What departs from
//! its plan is kept and marked, or refused, as the plan says.
//!
//! What is told of a departure is a place and a rule, both out of the plan: `/items/*/price: type`. Never a value, nor a name
//! that the client chose, for either may be about a person; and so there are as many texts as rules, however many events.
//!
//! A schema is input like any other. It may not point outside of itself; it may not be large, nor become large when its
//! references are followed, nor follow itself; patterns are those of a regular language, matched in linear time.

use std::collections::HashMap;
use std::sync::Arc;

use jsonschema::error::ValidationErrorKind;
use jsonschema::{PatternOptions, ValidationError, Validator};
use millrace_events::{Kind, fold_name};
use serde_json::Value;

use crate::refusal::{Reason, Rejection};

/// The largest schema, in bytes of its JSON.
pub const SCHEMA_BYTES_MAX: usize = 64 * 1024;

/// How many parts a schema may have once its references are followed: an event is compared with each of them.
pub const SCHEMA_PARTS_MAX: usize = 2_000;

/// The most plans that are kept in memory.
pub const PLANS_MAX: usize = 1_000;

/// The longest text about a departure, bytes.
pub const VIOLATION_BYTES_MAX: usize = 200;

/// How large one compiled pattern may be, bytes.
const PATTERN_BYTES_MAX: usize = 256 * 1024;

/// What becomes of an event that departs from its plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnViolation {
    /// It is kept, and says how it departs.
    Mark,
    /// It is a dead letter.
    Refuse,
}

/// Why a schema cannot be a plan, in words for who wrote it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SchemaError(String);

/// What the properties of one event must look like.
#[derive(Debug)]
pub struct Plan {
    event: String,
    on_violation: OnViolation,
    schema: Validator,
}

impl Plan {
    /// Compiles a plan for the events of this name, however it is written.
    ///
    /// # Errors
    /// Why the schema cannot be one.
    pub fn compile(event: &str, schema: &Value, on_violation: OnViolation) -> Result<Self, SchemaError> {
        let event = fold_name(event).into_owned();
        if event.is_empty() {
            return Err(SchemaError("the name of the event has no letter and no digit".to_owned()));
        }
        check_size(schema)?;
        let patterns = PatternOptions::regex().size_limit(PATTERN_BYTES_MAX);
        let options = jsonschema::options().offline().with_pattern_options(patterns);
        let schema = options.build(schema).map_err(|error| {
            let place = bounded(error.instance_path().to_string());
            SchemaError(format!("at {}: {}", if place.is_empty() { "/" } else { &place }, bounded(error.to_string())))
        })?;
        Ok(Self { event, on_violation, schema })
    }

    /// The folded name of the events that it is for.
    pub fn event(&self) -> &str {
        &self.event
    }

    /// How these properties, a JSON object, depart from the plan: a place and a rule. `None` when they do not.
    pub fn violation(&self, properties: &str) -> Option<String> {
        let properties = if properties.is_empty() { "{}" } else { properties };
        let Ok(properties) = serde_json::from_str::<Value>(properties) else {
            // Half a surrogate pair, or a number beyond all: JSON by its grammar and nothing to compare.
            return Some("/: json".to_owned());
        };
        self.schema.validate(&properties).err().map(|error| told(&error))
    }
}

/// The plans that the door knows, by event.
#[derive(Debug, Default)]
pub(crate) struct Plans(HashMap<Box<str>, Plan>);

impl Plans {
    pub(crate) fn new(plans: Vec<Plan>) -> Arc<Self> {
        let mut known = HashMap::new();
        for plan in plans {
            if known.len() == PLANS_MAX {
                tracing::error!(
                    event = plan.event,
                    "there are more than {PLANS_MAX} tracking plans: the rest is left out"
                );
                break;
            }
            known.insert(Box::from(plan.event.as_str()), plan);
        }
        Arc::new(Self(known))
    }

    /// How the properties of an event depart from its plan, if it has one that marks; empty when they do not.
    pub(crate) fn check(&self, kind: Kind, event: &str, properties: &str) -> Result<String, Rejection> {
        let is_planned = matches!(kind, Kind::Track | Kind::Page | Kind::Screen);
        let Some(plan) = self.0.get(event).filter(|_| is_planned) else { return Ok(String::new()) };
        match (plan.violation(properties), plan.on_violation) {
            (None, _) => Ok(String::new()),
            (Some(violation), OnViolation::Mark) => Ok(violation),
            (Some(violation), OnViolation::Refuse) => {
                let detail = format!("properties depart from the tracking plan of {event}: {violation}");
                Err(Rejection::new(Reason::PlanViolation, detail))
            }
        }
    }
}

/// A place and a rule, without what the client sent.
fn told(error: &ValidationError<'_>) -> String {
    let missing = match error.kind() {
        // It is the plan's own word, since the event does not have it.
        ValidationErrorKind::Required { property } => property.as_str(),
        _ => None,
    };
    bounded(format!("{}: {}", place(error.evaluation_path().as_str(), missing), error.kind().keyword()))
}

/// Where in the properties a part of the schema applies: `/properties/items/items/properties/price/type` is `/items/*/price`.
fn place(schema_path: &str, missing: Option<&str>) -> String {
    let mut place = String::new();
    let mut segments = schema_path.split('/').skip(1).peekable();
    while let Some(keyword) = segments.next() {
        // The last one is the rule itself.
        if segments.peek().is_none() {
            break;
        }
        match keyword {
            "properties" | "patternProperties" | "dependentSchemas" => {
                place.push('/');
                place.push_str(segments.next().unwrap_or_default());
            }
            "prefixItems" => {
                segments.next();
                place.push_str("/*");
            }
            "items"
            | "additionalItems"
            | "additionalProperties"
            | "unevaluatedItems"
            | "unevaluatedProperties"
            | "contains" => place.push_str("/*"),
            _ => {}
        }
    }
    if let Some(missing) = missing {
        place.push('/');
        place.push_str(missing);
    }
    if place.is_empty() { "/".to_owned() } else { place }
}

fn bounded(mut text: String) -> String {
    text.retain(|c| !c.is_control());
    text.truncate(text.floor_char_boundary(VIOLATION_BYTES_MAX));
    text
}

/// Refuses what would be dear to compare with.
fn check_size(schema: &Value) -> Result<(), SchemaError> {
    let bytes = schema.to_string().len();
    if bytes > SCHEMA_BYTES_MAX {
        return Err(SchemaError(format!("a schema of {bytes} bytes is too long: at most {SCHEMA_BYTES_MAX} fit")));
    }
    let mut parts = Parts { root: schema, known: HashMap::new() };
    let count = parts.count(schema)?;
    if count > SCHEMA_PARTS_MAX {
        let why = format!("with its references followed it has more than {SCHEMA_PARTS_MAX} parts");
        return Err(SchemaError(why));
    }
    Ok(())
}

/// How many parts a schema has once its references are followed.
struct Parts<'a> {
    root: &'a Value,
    /// By reference; `None` while it is being counted.
    known: HashMap<&'a str, Option<usize>>,
}

impl<'a> Parts<'a> {
    fn count(&mut self, part: &'a Value) -> Result<usize, SchemaError> {
        let mut count = 1_usize;
        match part {
            Value::Object(fields) => {
                for (name, value) in fields {
                    count = count.saturating_add(match (name.as_str(), value) {
                        ("$ref", Value::String(reference)) => self.follow(reference)?,
                        ("$dynamicRef" | "$recursiveRef", Value::String(_)) => {
                            return Err(SchemaError(format!("{name} is not taken: use $ref")));
                        }
                        // Whatever has a base of its own would have its references followed elsewhere.
                        ("$id" | "id" | "$anchor" | "$dynamicAnchor", Value::String(_)) => {
                            return Err(SchemaError(format!("{name} is not taken: a plan is known by its event")));
                        }
                        _ => self.count(value)?,
                    });
                }
            }
            Value::Array(values) => {
                for value in values {
                    count = count.saturating_add(self.count(value)?);
                }
            }
            _ => {}
        }
        Ok(count)
    }

    fn follow(&mut self, reference: &'a str) -> Result<usize, SchemaError> {
        match self.known.get(reference) {
            Some(Some(count)) => return Ok(*count),
            Some(None) => return Err(SchemaError(format!("{} leads back to itself", shown(reference)))),
            None => {}
        }
        let target = reference.strip_prefix('#').filter(|pointer| pointer.starts_with('/'));
        let target = target.and_then(|pointer| self.root.pointer(pointer));
        let Some(target) = target else {
            let why =
                format!("{} is not found: a reference is `#/` and a place in the schema itself", shown(reference));
            return Err(SchemaError(why));
        };
        self.known.insert(reference, None);
        let count = self.count(target)?;
        self.known.insert(reference, Some(count));
        Ok(count)
    }
}

fn shown(reference: &str) -> String {
    format!("the reference {:?}", bounded(reference.to_owned()))
}

#[cfg(test)]
mod tests;
