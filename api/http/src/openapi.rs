//! The OpenAPI document, built once from what stands beside each route.

use std::sync::OnceLock;

use axum::response::Response;
use millrace_collector::{Call, Scope};
use utoipa::openapi::path::{HttpMethod, OperationBuilder, PathItem};
use utoipa::openapi::request_body::RequestBodyBuilder;
use utoipa::openapi::schema::{ArrayBuilder, KnownFormat, Object, ObjectBuilder, SchemaFormat, Type};
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{ContentBuilder, Ref, RefOr, ResponseBuilder};
use utoipa::{Modify, OpenApi};

use crate::error::Problem;
use crate::ingest::DOORS;
use crate::routes::{self, GUARDED, Guarded};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Millrace",
        description = "Events in, feeds and counters out. Ids are opaque strings of at most 200 bytes; times are RFC 3339 in UTC; unknown fields may appear in answers.",
        license(name = "Apache-2.0", identifier = "Apache-2.0"),
    ),
    paths(
        routes::feeds::home, routes::feeds::author, routes::posts::post, routes::posts::engagement,
        routes::queries::list, routes::queries::run,
        routes::trends::tags, routes::trends::posts,
        routes::status::status, routes::health::alive, routes::health::ready, routes::health::metrics,
        routes::log::records, routes::backup::begin, routes::backup::state,
        routes::verify::begin, routes::verify::state, document,
    ),
    components(schemas(Problem<'static>)),
    modifiers(&Security, &Ingest, &Described),
    tags(
        (name = "ingest", description = "The Segment HTTP Tracking API, and PostHog's capture"),
        (name = "feeds", description = "What to show"),
        (name = "posts", description = "Posts and their counters"),
        (name = "trends", description = "What rises against its own past"),
        (name = "queries", description = "What happened, by named queries"),
        (name = "operations", description = "How the platform is doing"),
    ),
)]
struct Document;

/// The document as JSON.
pub fn openapi_json() -> &'static str {
    static JSON: OnceLock<String> = OnceLock::new();
    // Strings, maps and numbers always serialise; a test looks at what comes out.
    JSON.get_or_init(|| serde_json::to_string(&Document::openapi()).unwrap_or_default())
}

/// This document.
#[utoipa::path(get, path = "/openapi.json", tag = "operations", responses(
    (status = 200, content_type = "application/json"), (status = "4XX", body = Problem),
))]
pub(crate) async fn document() -> Response {
    routes::json_text(openapi_json())
}

/// Who may ask: what a route asks for is said where it is registered.
struct Security;

impl Modify for Security {
    fn modify(&self, openapi: &mut utoipa::openapi::OpenApi) {
        let components = openapi.components.get_or_insert_default();
        for (name, scheme, what) in [
            ("secret_key", HttpAuthScheme::Bearer, "A secret key; a route names the scope that it must have."),
            ("api_token", HttpAuthScheme::Bearer, "The deployment's token for readers: every scope that reads."),
            ("admin_token", HttpAuthScheme::Bearer, "The administrator's token: every scope."),
            ("write_key", HttpAuthScheme::Basic, "A write key as the user name, without a password."),
        ] {
            let mut http = Http::new(scheme);
            http.description = Some(what.to_owned());
            components.add_security_scheme(name, SecurityScheme::Http(http));
        }
        for Guarded { path, scope, .. } in GUARDED {
            let Some(item) = openapi.paths.paths.get_mut(*path) else { continue };
            for operation in [&mut item.get, &mut item.post].into_iter().flatten() {
                operation.security = Some(asked(*scope));
                let said = operation.description.take().map_or_else(String::new, |said| format!("{said}\n\n"));
                operation.description = Some(format!("{said}Needs the scope `{scope}`."));
            }
        }
    }
}

/// What may be sent to a route that asks for this; nothing, too, where a deployment lets everybody read or write.
fn asked(scope: Scope) -> Vec<SecurityRequirement> {
    let token = |name: &str| SecurityRequirement::new(name, [] as [String; 0]);
    let key = SecurityRequirement::new("secret_key", [scope.as_str()]);
    match scope {
        Scope::Admin => vec![token("admin_token"), key],
        Scope::EventsWrite => vec![SecurityRequirement::default(), token("write_key"), key],
        _ => vec![SecurityRequirement::default(), token("api_token"), token("admin_token"), key],
    }
}

/// The ingest paths: they are many and alike.
struct Ingest;

impl Modify for Ingest {
    fn modify(&self, openapi: &mut utoipa::openapi::OpenApi) {
        for (path, door) in DOORS {
            let problem = || {
                let content = ContentBuilder::new().schema(Some(Ref::from_schema_name("Problem"))).build();
                ResponseBuilder::new().content("application/json", content).build()
            };
            let accepted = ResponseBuilder::new().content("application/json", ContentBuilder::new().build()).build();
            let schema = match door.call() {
                Some(Call::Batch) => batch(),
                Some(Call::Capture) => captured(),
                _ => event(),
            };
            let body = RequestBodyBuilder::new()
                .description(Some("JSON, whatever the content type says; gzip allowed"))
                .content("application/json", ContentBuilder::new().schema(Some(schema)).build())
                .build();
            let operation = OperationBuilder::new()
                .tag("ingest")
                .operation_id(Some(format!("ingest{}", path.replace('/', "_"))))
                .summary(Some("Takes events in; 200 when they are durable in the log."))
                .request_body(Some(body))
                .response("200", accepted)
                .response("400", problem())
                .response("401", problem())
                .response("403", problem())
                .response("413", problem())
                .response("503", problem())
                .securities(Some(asked(Scope::EventsWrite)))
                .build();
            openapi.paths.paths.insert((*path).to_owned(), PathItem::new(HttpMethod::Post, operation));
        }
    }
}

/// One call. An event that lacks something is no error of the request: it is answered with 200 and goes to the dead letters.
fn event() -> Object {
    let text = || ObjectBuilder::new().schema_type(Type::String);
    let time = || text().format(Some(SchemaFormat::KnownFormat(KnownFormat::DateTime)));
    let object = || ObjectBuilder::new().schema_type(Type::Object);
    object()
        .description(Some("A Segment call. In a batch it has a `type` too."))
        .property("event", text())
        .property("userId", text())
        .property("anonymousId", text())
        .property("messageId", text())
        .property("timestamp", time())
        .property("sentAt", time())
        .property("properties", object())
        .property("traits", object())
        .property("context", object())
        .build()
}

fn batch() -> Object {
    ObjectBuilder::new()
        .schema_type(Type::Object)
        .property("batch", ArrayBuilder::new().items(event()))
        .required("batch")
        .build()
}

/// PostHog's: one of them, or an object that holds several. A list of them is taken too.
fn captured() -> Object {
    let object = || ObjectBuilder::new().schema_type(Type::Object);
    let text = || ObjectBuilder::new().schema_type(Type::String);
    object()
        .property("api_key", text())
        .property("event", text())
        .property("distinct_id", text())
        .property("uuid", text())
        .property("timestamp", text().format(Some(SchemaFormat::KnownFormat(KnownFormat::DateTime))))
        .property("properties", object())
        .property("batch", ArrayBuilder::new().items(object()))
        .property("sent_at", text().format(Some(SchemaFormat::KnownFormat(KnownFormat::DateTime))))
        .build()
}

/// Every response needs words of its own, and those of a status are always the same here.
struct Described;

impl Modify for Described {
    fn modify(&self, openapi: &mut utoipa::openapi::OpenApi) {
        let items = openapi.paths.paths.values_mut();
        let operations = items.flat_map(|item| [&mut item.get, &mut item.post]).flatten();
        for (status, response) in operations.flat_map(|operation| &mut operation.responses.responses) {
            let RefOr::T(response) = response else { continue };
            response.description = match status.as_bytes() {
                [b'2', ..] => "answered",
                [b'4', ..] => "the request has to be changed: `code` and `detail` say how",
                _ => "the same request may be sent again later",
            }
            .to_owned();
        }
    }
}
