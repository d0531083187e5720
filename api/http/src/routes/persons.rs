//! Persons and their ids.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use millrace_events::format_rfc3339;
use millrace_feature_store::person;
use serde::Serialize;
use utoipa::ToSchema;

use super::Answer;
use super::query::Id;
use crate::api::Shared;
use crate::error::Problem;

/// Which ids are one person, by the `identify` and `alias` calls so far.
#[derive(Serialize, ToSchema)]
pub(crate) struct Person {
    /// The id that stands for all of them.
    person_id: String,
    /// All of them, at most 32: those nearest to the person and of these the ones linked last, and the one asked for.
    ids: Vec<PersonId>,
    /// The log time up to which this answer is complete; null before anything was applied.
    as_of: Option<String>,
}

/// An id of a person.
#[derive(Serialize, ToSchema)]
pub(crate) struct PersonId {
    id: String,
    /// Since when it belongs to another id: RFC 3339, by the client's corrected clock. Null for one that does not.
    linked_at: Option<String>,
}

/// The person that an id belongs to; an id that was never linked is a person of its own.
#[utoipa::path(get, path = "/v1/persons/{id}", tag = "persons",
    params(
        ("id" = String, Path, description = "Any id of the person", min_length = 1, max_length = 200,
            pattern = r"^[^\x00-\x1f\x7f-\x9f]+$"),
    ), responses(
    (status = 200, body = Person), (status = "4XX", body = Problem), (status = "5XX", body = Problem),
))]
pub(crate) async fn person(State(shared): State<Arc<Shared>>, Id(id): Id) -> Answer<Person> {
    // The clock is read first: what is read after it can only be more complete than it says.
    let as_of = shared.state.ranker.as_of().await?;
    let person::Person { person_id, ids } = shared.state.ranker.person(&id).await?;
    let ids = ids.into_iter().map(|id| PersonId { id: id.id, linked_at: id.linked_at_us.map(format_rfc3339) });
    Ok(Json(Person { person_id, ids: ids.collect(), as_of: as_of.map(|t| t.to_string()) }))
}
