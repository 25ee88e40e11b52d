//! The document's content in the form that `aide` takes.

use aide::{
    OperationInput,
    generate::GenContext,
    openapi::{Operation, Parameter, ReferenceOr, Response, StatusCode},
    transform::TransformOperation,
};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{Key, document};
use crate::{engine::IdempotencyKey, http::Idempotent};

/// Adds the key's headers, as [`Key::new`] describes them, and the library's errors for each status
/// that neither the handler's other parameters nor its response describe. Use [`Key::describe`] for
/// what the attribute's options change.
impl<E: OperationInput> OperationInput for Idempotent<E> {
    fn operation_input(ctx: &mut GenContext, operation: &mut Operation) {
        E::operation_input(ctx, operation);
        operation.parameters.extend(parameters(&Key::new()));
    }

    fn inferred_early_responses(
        ctx: &mut GenContext,
        operation: &mut Operation,
    ) -> Vec<(Option<u16>, Response)> {
        let mut responses = E::inferred_early_responses(ctx, operation);
        for (status, problem) in document::problems() {
            let code = StatusCode::Code(status);
            let is_known = responses.iter().any(|(known, _)| *known == Some(status))
                || operation
                    .responses
                    .as_ref()
                    .is_some_and(|all| all.responses.contains_key(&code));
            if !is_known {
                responses.push((Some(status), read(problem)));
            }
        }
        responses
    }
}

/// Adds nothing: the headers of the key are the handler's, with or without this parameter.
impl OperationInput for IdempotencyKey {}

/// Adds nothing: its errors are among those of the library.
#[cfg(feature = "postgres")]
impl<I> OperationInput for crate::Tx<I> {}

impl Key {
    /// Describes an operation according to the options of its handler's attribute, and adds the
    /// header `idempotent-replayed` to each 2xx response that is already described.
    ///
    /// ```
    /// # use aide::axum::{ApiRouter, routing::post_with};
    /// # use axum::{Json, response::IntoResponse as _};
    /// # use idempotent_runtime::{Idempotent, openapi::Key};
    /// // #[idempotent(header = "x-idempotency-key", format = "any", required, …)]
    /// # async fn create(_: Idempotent<String>) -> axum::response::Response { ().into_response() }
    /// let create = post_with(create, |operation| {
    ///     let key = Key::new().headers(&["x-idempotency-key"]).any().required();
    ///     key.describe(operation.response::<201, Json<String>>())
    /// });
    ///
    /// let mut api = aide::openapi::OpenApi::default();
    /// let _: axum::Router = ApiRouter::new().api_route("/members", create).finish_api(&mut api);
    /// let api = serde_json::to_value(api)?;
    /// let operation = &api["paths"]["/members"]["post"];
    /// assert_eq!(operation["parameters"][0]["name"], "x-idempotency-key");
    /// assert_eq!(operation["parameters"][0]["required"], true);
    /// assert!(operation["responses"]["201"]["headers"]["idempotent-replayed"].is_object());
    /// # Ok::<(), serde_json::Error>(())
    /// ```
    pub fn describe(self, mut operation: TransformOperation<'_>) -> TransformOperation<'_> {
        let described = operation.inner_mut();
        let default = Self::new();
        let is_default = |parameter: &ReferenceOr<Parameter>| {
            matches!(parameter, ReferenceOr::Item(Parameter::Header { parameter_data, .. })
                if default.headers.contains(&&*parameter_data.name))
        };
        described.parameters.retain(|parameter| !is_default(parameter));
        described.parameters.extend(parameters(&self));
        let responses = described.responses.iter_mut().flat_map(|all| &mut all.responses);
        for (status, response) in responses {
            let is_success = match status {
                StatusCode::Code(code) => (200..300).contains(code),
                StatusCode::Range(class) => *class == 2,
            };
            if let (true, ReferenceOr::Item(response)) = (is_success, response) {
                let header = response.headers.entry(document::REPLAYED.to_owned());
                header.or_insert_with(|| ReferenceOr::Item(read(document::replayed())));
            }
        }
        operation
    }
}

fn parameters(key: &Key) -> impl Iterator<Item = ReferenceOr<Parameter>> + use<> {
    document::parameters(key).into_iter().map(|parameter| ReferenceOr::Item(read(parameter)))
}

fn read<T: DeserializeOwned>(object: Value) -> T {
    serde_json::from_value(object).expect("it is written as OpenAPI defines it")
}
