//! What the OpenAPI document says beside the handlers: the service, its errors and its tokens.

use std::collections::BTreeMap;

use axum::http::StatusCode;
use utoipa::{
    IntoResponses, Modify, OpenApi,
    openapi::{
        self, Content, Ref, RefOr, Response, ResponseBuilder,
        security::{Http, HttpAuthScheme, SecurityScheme},
    },
};

use utoipa_swagger_ui::{Config, SwaggerUi};

use crate::error::Problem;

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Onboarding",
        description = "Every POST is safe to retry: a request that repeats an idempotency key gets \
                       the first response again, and nothing is created twice.",
    ),
    components(schemas(Problem)),
    tags(
        (name = "entities", description = "Downstream entities, invited or added"),
        (name = "members", description = "Each client's own members"),
    ),
    modifiers(&Rest),
)]
pub(crate) struct Api;

/// `/openapi.json`, and `/docs` to read it.
pub(crate) fn docs(document: openapi::OpenApi) -> SwaggerUi {
    // By default the page sends the document to another site, which checks it.
    let config = Config::new(["/openapi.json"]).validator_url("none");
    SwaggerUi::new("/docs").config(config).url("/openapi.json", document)
}

/// What the attribute above has no words for.
struct Rest;

impl Modify for Rest {
    fn modify(&self, document: &mut openapi::OpenApi) {
        // Taken from the package, which has none.
        document.info.license = None;
        let token = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
        document.components.get_or_insert_default().add_security_scheme("token", token);
    }
}

/// Defines what handlers list as their errors: some of them, by status. For its status it takes the
/// place of what `#[idempotent]` says, so it is said here as well.
macro_rules! errors {
    ($($(#[$doc:meta])* $name:ident { $($status:ident: $description:literal,)+ })+) => {$(
        $(#[$doc])*
        pub(crate) struct $name;

        impl IntoResponses for $name {
            fn responses() -> BTreeMap<String, RefOr<Response>> {
                [$((StatusCode::$status, $description)),+].map(response).into()
            }
        }
    )+};
}

errors! {
    /// A body that is refused, or a key.
    InvalidBody {
        BAD_REQUEST: "The body is not JSON, or the idempotency key is not valid",
        PAYLOAD_TOO_LARGE: "The body is larger than 2 MB",
        UNSUPPORTED_MEDIA_TYPE: "The body is not said to be JSON",
        UNPROCESSABLE_ENTITY: "A field is missing or not valid, or the key was used with another request",
    }
    /// No token.
    Unauthorized {
        UNAUTHORIZED: "There is no token",
    }
    /// No such thing.
    NotFound {
        NOT_FOUND: "There is nothing with this id",
    }
    /// A member with the same email.
    EmailTaken {
        CONFLICT: "There is a member with this email, or the first request with the key is still running, or its response is not available",
    }
}

fn response((status, description): (StatusCode, &str)) -> (String, RefOr<Response>) {
    let problem = Content::new(Some(Ref::from_schema_name("Problem")));
    let response = ResponseBuilder::new().description(description);
    let response = response.content("application/problem+json", problem).build();
    (status.as_str().to_owned(), response.into())
}
