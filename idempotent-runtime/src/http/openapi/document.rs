//! The document's content, as JSON that is the same for every crate that builds documents.

use std::{collections::BTreeMap, fmt::Write as _};

use serde_json::{Map, Value, json};

use super::key::Key;
use crate::{
    engine::ProblemCode,
    http::{policy::Format, problem::Problem},
};

/// The header that marks a replay.
#[cfg(feature = "aide")]
pub(super) const REPLAYED: &str = "idempotent-replayed";

/// The Header Object of the replay marker.
#[cfg(feature = "aide")]
pub(super) fn replayed() -> Value {
    json!({
        "description": "`true` if this is the stored response of an earlier request with the same key",
        "schema": { "type": "boolean" },
    })
}

/// The Parameter Object of each of the key's headers.
pub(super) fn parameters(key: &Key) -> Vec<Value> {
    let describe = |(index, name): (usize, &&str)| {
        json!({
            "name": name,
            "in": "header",
            "description": if index == 0 { description(key) } else { other_name(key.headers[0]) },
            // OpenAPI has no "one of these".
            "required": key.required && index == 0,
            "schema": schema(key.format),
            "example": example(key.format),
        })
    };
    key.headers.iter().enumerate().map(describe).collect()
}

fn description(key: &Key) -> String {
    let what = match key.format {
        Format::Uuid => "A UUID",
        Format::UuidV4 => "A UUID of version 4",
        Format::Any => "A text of 1 to 255 printable ASCII characters",
    };
    let mut text = format!(
        "{what} that makes retries safe: choose a new one for each request, and repeat it with every retry. A retry gets the stored response of the first request"
    );
    if let Some(ttl) = key.ttl {
        let _ = write!(text, ", for {ttl}");
    }
    text.push('.');
    if !key.required {
        text.push_str(" Without a key, a retry is a new request.");
    }
    text
}

fn other_name(first: &str) -> String {
    format!("Another name of `{first}`: either is enough. If both are sent, they must be equal.")
}

/// What a key looks like. A key may also be quoted (RFC 9651), which nobody needs to know to send
/// one.
fn schema(format: Format) -> Value {
    match format {
        Format::Uuid => json!({ "type": "string", "format": "uuid" }),
        Format::UuidV4 => json!({
            "type": "string",
            "format": "uuid",
            "pattern": "^[0-9A-Fa-f]{8}-[0-9A-Fa-f]{4}-4[0-9A-Fa-f]{3}-[89ABab][0-9A-Fa-f]{3}-[0-9A-Fa-f]{12}$",
        }),
        // Spaces around a value are not part of it, and `"` starts a quoted one.
        Format::Any => json!({
            "type": "string",
            "minLength": 1,
            "maxLength": 255,
            "pattern": "^[!#-~]([ -~]*[!-~])?$",
        }),
    }
}

fn example(format: Format) -> &'static str {
    match format {
        Format::Uuid | Format::UuidV4 => "8e03978e-40d5-43e8-bc93-6894a57f9324",
        Format::Any => "order-4711",
    }
}

/// The Response Object for each status that the library answers with.
pub(super) fn problems() -> BTreeMap<u16, Value> {
    let mut codes: BTreeMap<u16, Vec<Problem>> = BTreeMap::new();
    for problem in ProblemCode::ALL.iter().map(|code| Problem::example(*code)) {
        codes.entry(problem.status().as_u16()).or_default().push(problem);
    }
    codes.into_iter().map(|(status, problems)| (status, response(status, &problems))).collect()
}

fn response(status: u16, problems: &[Problem]) -> Value {
    let reasons =
        problems.iter().map(|problem| format!("`{}`: {}.", problem.code(), problem.title()));
    let description = reasons.collect::<Vec<_>>().join(" ");
    let codes: Vec<&str> = problems.iter().map(|problem| problem.code().as_str()).collect();
    let string = || json!({ "type": "string" });
    let schema = json!({
        "type": "object",
        "required": ["type", "title", "status", "detail", "code", "message"],
        "properties": {
            "type": { "type": "string", "format": "uri-reference" },
            "title": string(),
            "status": { "type": "integer", "enum": [status] },
            "detail": string(),
            "code": { "type": "string", "enum": codes },
            "message": string(),
        },
    });
    let mut response = Map::new();
    response.insert("description".to_owned(), description.into());
    if problems.iter().any(|problem| problem.retry_after().is_some()) {
        let retry_after = json!({
            "description": "Seconds after which a retry makes sense",
            "schema": { "type": "integer", "minimum": 1 },
        });
        response.insert("headers".to_owned(), json!({ "retry-after": retry_after }));
    }
    let content = json!({ "application/problem+json": { "schema": schema } });
    response.insert("content".to_owned(), content);
    response.into()
}
