//! Handlers in an OpenAPI document: what it says of the key, the errors and the replay, and whether the
//! handlers do what it says.

mod aide_router;
mod attribute;
mod by_hand;
mod options;
mod truth;

use serde_json::Value;
use utoipa_axum::router::{OpenApiRouter, UtoipaMethodRouter};

/// The router, and the document of its operations.
fn split(router: OpenApiRouter) -> (axum::Router, Value) {
    let (app, document) = router.split_for_parts();
    (app, serde_json::to_value(document).expect("a document is JSON"))
}

/// What the document says of the only operation among `routes`.
fn operation(routes: UtoipaMethodRouter) -> Value {
    let (_, document) = split(OpenApiRouter::new().routes(routes));
    let paths = document["paths"].as_object().expect("it has paths");
    let operations = paths.values().next().and_then(Value::as_object).expect("it has one path");
    assert_eq!((paths.len(), operations.len()), (1, 1));
    operations.values().next().expect("it has one operation").clone()
}

/// The parameters of an operation that are in headers: their names, and whether they are required.
fn headers(operation: &Value) -> Vec<(&str, bool)> {
    let parameters = operation["parameters"].as_array().into_iter().flatten();
    let headers = parameters.filter(|parameter| parameter["in"] == "header");
    headers
        .map(|parameter| {
            let name = parameter["name"].as_str().expect("it has a name");
            (name, parameter["required"] == true)
        })
        .collect()
}

/// The codes of the library that the document lists under `status`.
fn codes(operation: &Value, status: u16) -> Vec<&str> {
    let response = &operation["responses"][status.to_string()];
    let schema = &response["content"]["application/problem+json"]["schema"];
    let codes = schema["properties"]["code"]["enum"].as_array().into_iter().flatten();
    codes.map(|code| code.as_str().expect("a code is a text")).collect()
}
