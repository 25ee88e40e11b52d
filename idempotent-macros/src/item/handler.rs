//! Whether a function can be a handler.

use proc_macro2::Span;
use syn::{FnArg, spanned::Spanned as _};

use super::{Function, parameter, pattern};
use crate::faults::Faults;

impl Function {
    /// Reports why the function cannot be a handler, and repairs it; `None` if that is impossible.
    pub(crate) fn into_handler(mut self, faults: &mut Faults) -> Option<Self> {
        let signature = &mut self.signature;
        let mut fault = |span: Span, message: &str| faults.add(syn::Error::new(span, message));
        if signature.asyncness.is_none() {
            fault(
                signature.fn_token.span,
                "a handler must be an `async fn`: write `async` before `fn`",
            );
            signature.asyncness = Some(syn::Token![async](signature.fn_token.span));
        }
        if let Some(token) = signature.constness.take() {
            fault(token.span(), "a handler cannot be `const`: remove it");
        }
        if let syn::Safety::Unsafe(token) = &signature.safety {
            fault(token.span(), "a handler cannot be `unsafe`: remove it");
            signature.safety = syn::Safety::Default;
        }
        if let Some(abi) = signature.abi.take() {
            fault(abi.extern_token.span, "a handler cannot be `extern`: remove it");
        }
        self.attributes.retain(|attribute| {
            let Some(name) = attribute.path().segments.last() else { return true };
            let twice = name.ident == "idempotent";
            if twice {
                fault(name.ident.span(), "`#[idempotent]` is applied twice: keep one");
            }
            !twice
        });
        if let Some(FnArg::Receiver(receiver)) = self.signature.inputs.first() {
            fault(
                receiver.self_token.span,
                "a handler cannot take `self`: take the value as a parameter, such as `State(service): State<Service>`",
            );
            return None;
        }
        for parameter in &mut self.signature.inputs {
            if let FnArg::Typed(parameter) = parameter {
                pattern::refuse_ref(&mut parameter.pat, faults);
            }
        }
        refuse_parameters(&mut self, faults);
        Some(self)
    }
}

/// Removes from the signature what certainly is not an extractor in its position.
///
/// Whether a type is an extractor depends on the router's state, so only the compiler can tell, and
/// it would only say that the whole function is not a handler.
fn refuse_parameters(function: &mut Function, faults: &mut Faults) {
    let inputs = &mut function.signature.inputs;
    let unconditional = |parameter: &FnArg| match parameter {
        FnArg::Typed(typed) => {
            !typed.attrs.iter().any(|attribute| attribute.path().is_ident("cfg"))
        }
        FnArg::Receiver(_) => true,
    };
    let last = inputs.iter().rposition(unconditional).unwrap_or(0);
    for (index, parameter) in std::mem::take(inputs).into_iter().enumerate() {
        let FnArg::Typed(typed) = parameter else { continue };
        match parameter::fault(&typed, index < last) {
            Some(fault) => {
                faults.add(fault);
                function.refused.push(typed);
            }
            None => inputs.push(FnArg::Typed(typed)),
        }
    }
}
