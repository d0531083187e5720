//! The OpenAPI document, built once from what stands beside each route.

use std::sync::OnceLock;

use axum::response::Response;
use millrace_collector::{Call, Scope};
use utoipa::openapi::path::{HttpMethod, Operation, OperationBuilder, ParameterBuilder, ParameterIn, PathItem};
use utoipa::openapi::request_body::RequestBodyBuilder;
use utoipa::openapi::schema::{ArrayBuilder, KnownFormat, Object, ObjectBuilder, SchemaFormat, Type};
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{ContentBuilder, HeaderBuilder, Ref, RefOr, Required, ResponseBuilder};
use utoipa::{Modify, OpenApi};

use crate::error::Problem;
use crate::ingest::{DOORS, Door};
use crate::routes::{self, GUARDED, Guarded};
use crate::verdicts::{EventResult, Outcome, Results};
use crate::{remote_config, settings};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Millrace",
        description = "Events in, feeds and counters out. Ids are opaque strings of at most 200 bytes; times are RFC 3339 in UTC; unknown fields may appear in answers.",
        license(name = "Apache-2.0", identifier = "Apache-2.0"),
    ),
    paths(
        routes::feeds::home, routes::feeds::author, routes::posts::post, routes::posts::engagement,
        routes::persons::person,
        routes::queries::list, routes::queries::run,
        routes::trends::tags, routes::trends::posts,
        routes::status::status, routes::ingest_status::ingest_status,
        routes::health::alive, routes::health::ready, routes::health::metrics,
        routes::log::records, routes::backup::begin, routes::backup::state,
        routes::verify::begin, routes::verify::state, settings::described,
        remote_config::described, remote_config::described_script, document,
    ),
    components(schemas(
        Problem<'static>, Results<'static>, EventResult<'static>, Outcome, settings::Settings, remote_config::RemoteConfig
    )),
    modifiers(&Security, &Ingest, &Described, &Limited),
    tags(
        (name = "ingest", description = "The Segment HTTP Tracking API, PostHog's capture, CloudEvents, and our own batch"),
        (name = "feeds", description = "What to show"),
        (name = "posts", description = "Posts and their counters"),
        (name = "persons", description = "Which ids are one person"),
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
            ("write_key_token", HttpAuthScheme::Bearer, "The same as a token."),
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
        Scope::EventsWrite => vec![SecurityRequirement::default(), token("write_key"), token("write_key_token"), key],
        _ => vec![SecurityRequirement::default(), token("api_token"), token("admin_token"), key],
    }
}

/// The ingest paths: they are many and alike.
struct Ingest;

impl Modify for Ingest {
    fn modify(&self, openapi: &mut utoipa::openapi::OpenApi) {
        for (path, door) in DOORS {
            let mut item = PathItem::new(HttpMethod::Post, post(path, *door));
            if door.takes_get() {
                item.get = Some(get(path, *door));
            }
            openapi.paths.paths.insert((*path).to_owned(), item);
        }
    }
}

fn post(path: &str, door: Door) -> Operation {
    let schema = match door.call() {
        Some(Call::Batch | Call::Events) => batch(),
        Some(Call::Capture) => captured(),
        Some(Call::Analytics) => analytics(),
        Some(Call::CloudEvents) => cloud_event(),
        _ => event(),
    };
    let content = |schema| ContentBuilder::new().schema(Some(schema)).build();
    let body = RequestBodyBuilder::new();
    let body = if door.call() == Some(Call::CloudEvents) {
        let list = ArrayBuilder::new().items(cloud_event()).build();
        body.description(Some(
            "One event, a list of them, or with headers ce-id, ce-source, ce-type and ce-specversion its data",
        ))
        .content("application/cloudevents+json", content(RefOr::from(schema)))
        .content("application/cloudevents-batch+json", content(RefOr::from(list)))
    } else {
        body.description(Some("JSON, whatever the content type says; gzip, deflate, zstd and br allowed"))
            .content("application/json", content(RefOr::from(schema)))
    };
    operation("ingest", path, door).request_body(Some(body.required(Some(Required::True)).build())).build()
}

/// One event in the query, as PostHog's SDKs send when they cannot post.
fn get(path: &str, door: Door) -> Operation {
    let text = || ObjectBuilder::new().schema_type(Type::String).build();
    let parameter = |name: &str, description: &str| {
        ParameterBuilder::new()
            .name(name)
            .parameter_in(ParameterIn::Query)
            .required(if name == "data" { Required::True } else { Required::False })
            .description(Some(description))
            .schema(Some(text()))
            .build()
    };
    operation("ingest_get", path, door)
        .parameter(parameter("data", "JSON in base 64, gzipped perhaps, or only escaped"))
        .parameter(parameter("token", "the write key, when it is not in the data"))
        .parameter(parameter("_", "when it was sent by the client's clock, in milliseconds since 1970"))
        .build()
}

fn operation(id: &str, path: &str, door: Door) -> OperationBuilder {
    let problem = || {
        let content = ContentBuilder::new().schema(Some(Ref::from_schema_name("Problem"))).build();
        ResponseBuilder::new().content("application/json", content).build()
    };
    let is_judged = matches!(door.call(), Some(Call::Events | Call::Analytics));
    let told = is_judged.then(|| Ref::from_schema_name("Results"));
    let accepted = ContentBuilder::new().schema(told).build();
    let accepted = ResponseBuilder::new().content("application/json", accepted).build();
    let operation = OperationBuilder::new()
        .tag("ingest")
        .operation_id(Some(format!("{id}{}", path.replace('/', "_"))))
        .summary(Some("Takes events in; 200 when they are durable in the log."))
        .response("200", accepted)
        .response("400", problem())
        .response("401", problem())
        .response("403", problem())
        .response("413", problem())
        .response("429", problem())
        .response("503", problem())
        .securities(Some(asked(Scope::EventsWrite)));
    if door.call() == Some(Call::CloudEvents) { operation.response("415", problem()) } else { operation }
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

/// PostHog's newer protocol.
fn analytics() -> Object {
    let object = || ObjectBuilder::new().schema_type(Type::Object);
    let text = || ObjectBuilder::new().schema_type(Type::String);
    let time = || text().format(Some(SchemaFormat::KnownFormat(KnownFormat::DateTime)));
    let event = object()
        .property("event", text())
        .property("uuid", text())
        .property("distinct_id", text())
        .property("timestamp", time())
        .property("options", object())
        .property("properties", object())
        .property("session_id", text())
        .property("window_id", text());
    object()
        .property("batch", ArrayBuilder::new().items(event))
        .property("created_at", time())
        .required("batch")
        .build()
}

fn cloud_event() -> Object {
    let text = || ObjectBuilder::new().schema_type(Type::String);
    let mut event = ObjectBuilder::new().schema_type(Type::Object);
    for name in ["id", "source", "type"] {
        event = event.property(name, text().min_length(Some(1))).required(name);
    }
    event
        .property("specversion", text().enum_values(Some(["1.0"])))
        .required("specversion")
        .description(Some("Other attributes and extensions are kept in the context; data may be any JSON."))
        .property("subject", text())
        .property("time", text().format(Some(SchemaFormat::KnownFormat(KnownFormat::DateTime))))
        .property("datacontenttype", text())
        .property("userid", text())
        .property("anonymousid", text())
        .property("data_base64", text())
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
                b"429" => "a write key or an address has asked too often: `Retry-After` says when it may again",
                [b'4', ..] => "the request has to be changed: `code` and `detail` say how",
                _ => "the same request may be sent again later",
            }
            .to_owned();
        }
    }
}

/// What an answer says where limits are set.
struct Limited;

impl Modify for Limited {
    fn modify(&self, openapi: &mut utoipa::openapi::OpenApi) {
        let header = |schema: Object, what: &str| {
            RefOr::T(HeaderBuilder::new().schema(Some(schema)).description(Some(what)).build())
        };
        let text = || ObjectBuilder::new().schema_type(Type::String).build();
        let items = openapi.paths.paths.values_mut();
        let operations = items.flat_map(|item| [&mut item.get, &mut item.post]).flatten();
        for (status, response) in operations.flat_map(|operation| &mut operation.responses.responses) {
            let RefOr::T(response) = response else { continue };
            if matches!(status.as_str(), "200" | "429") {
                let policy = header(
                    text(),
                    "where limits are set, each of them: what it holds and in how many seconds it fills",
                );
                let state = header(text(), "what is left of each, and in how many seconds all of it is there again");
                response.headers.extend([("RateLimit-Policy".to_owned(), policy), ("RateLimit".to_owned(), state)]);
            }
            if matches!(status.as_str(), "429" | "503") {
                let seconds = ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(1)).build();
                let wait = header(seconds, "in how many seconds to send the same request again");
                response.headers.insert("Retry-After".to_owned(), wait);
            }
        }
    }
}
