//! Tracking plans: what the properties of an event must look like.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Error, ErrorKind, Record, Result, check_name};

/// What becomes of an event that departs from its plan.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnViolation {
    /// It is kept, and says how it departs.
    #[default]
    Mark,
    /// It is a dead letter.
    Refuse,
}

/// A tracking plan. Whether the schema is one is for those who compile it: this crate knows no JSON Schema.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrackingPlan {
    /// The name of the events that it is for, folded to snake case.
    pub event: String,
    /// JSON Schema for their properties.
    pub schema: Value,
    /// What becomes of those that depart.
    #[serde(default)]
    pub on_violation: OnViolation,
}

impl Record for TrackingPlan {
    const KIND: &'static str = "plan";

    fn name(&self) -> &str {
        &self.event
    }

    fn check(&self) -> Result<()> {
        check_name(&self.event)?;
        if self.schema.is_object() || self.schema.is_boolean() {
            return Ok(());
        }
        let why = format!("the schema of the plan for {:?} is neither an object nor true or false", self.event);
        Err(Error::new(ErrorKind::Invalid, why))
    }
}

#[cfg(test)]
mod tests;
