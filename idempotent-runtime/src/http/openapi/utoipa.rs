//! The document's content in the form that `utoipa` takes.

use std::{collections::BTreeMap, marker::PhantomData};

use serde::de::DeserializeOwned;
use serde_json::Value;
use utoipa::{
    IntoParams, IntoResponses,
    openapi::{
        RefOr, Response,
        path::{Parameter, ParameterIn},
    },
};

use super::{Key, Problems, document};

/// A handler whose attribute describes itself. The expansion defines a separate type for each.
pub trait Described {
    /// The key, as the handler's options describe it.
    const KEY: Key;
}

/// The key of the handler that `H` stands for.
#[derive(Debug)]
pub struct KeyOf<H>(PhantomData<H>);

impl<H: Described> IntoParams for KeyOf<H> {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        parameters(&H::KEY)
    }
}

impl IntoParams for Key {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        parameters(&Self::new())
    }
}

impl IntoResponses for Problems {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        let problems = document::problems().into_iter();
        problems.map(|(status, response)| (status.to_string(), read(response))).collect()
    }
}

fn parameters(key: &Key) -> Vec<Parameter> {
    document::parameters(key).into_iter().map(read).collect()
}

fn read<T: DeserializeOwned>(object: Value) -> T {
    serde_json::from_value(object).expect("it is written as OpenAPI defines it")
}
