//! Tracking plans between the catalog, which knows no JSON Schema, and the door, which knows no catalog.

use millrace_catalog::{OnViolation, Snapshot, TrackingPlan};
use millrace_collector::{Plan, SchemaError};

/// The plans of a catalog. What cannot be read is told and left out.
pub(crate) fn read(catalog: &Snapshot) -> Vec<TrackingPlan> {
    let told =
        |error| tracing::error!(%error, "a tracking plan of the catalog cannot be read: its events are not checked");
    catalog.records::<TrackingPlan>().filter_map(|plan| plan.map_err(told).ok()).collect()
}

/// The same as the door compares with. What is no schema is told and left out: the events come in unchecked.
pub(crate) fn compile(plans: &[TrackingPlan]) -> Vec<Plan> {
    let compiled = plans.iter().map(|plan| (plan, compile_one(plan)));
    compiled
        .filter_map(|(plan, compiled)| match compiled {
            Ok(compiled) => Some(compiled),
            Err(error) => {
                let event = &plan.event;
                tracing::error!(event, %error, "a tracking plan of the catalog is no schema: its events are not checked");
                None
            }
        })
        .collect()
}

/// One of them.
///
/// # Errors
/// Why it is no schema.
pub(crate) fn compile_one(plan: &TrackingPlan) -> Result<Plan, SchemaError> {
    let on_violation = match plan.on_violation {
        OnViolation::Mark => millrace_collector::OnViolation::Mark,
        OnViolation::Refuse => millrace_collector::OnViolation::Refuse,
    };
    Plan::compile(&plan.event, &plan.schema, on_violation)
}
