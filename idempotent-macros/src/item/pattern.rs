//! Whether a pattern can be that of a handler parameter.

use syn::{Pat, spanned::Spanned as _};

use crate::faults::Faults;

/// Removes `ref` from the bindings of `pattern`: the body that receives them outlives what they
/// borrow.
pub(super) fn refuse_ref(pattern: &mut Pat, faults: &mut Faults) {
    let mut all = |patterns: &mut dyn Iterator<Item = &mut Pat>| {
        patterns.for_each(|pattern| refuse_ref(pattern, faults));
    };
    match pattern {
        Pat::Tuple(tuple) => all(&mut tuple.elems.iter_mut()),
        Pat::TupleStruct(tuple) => all(&mut tuple.elems.iter_mut()),
        Pat::Slice(slice) => all(&mut slice.elems.iter_mut()),
        Pat::Struct(fields) => all(&mut fields.fields.iter_mut().map(|field| &mut *field.pat)),
        Pat::Paren(inner) => refuse_ref(&mut inner.pat, faults),
        Pat::Ident(binding) => {
            if let Some(token) = binding.by_ref.take() {
                let name = &binding.ident;
                let by_value = binding.mutability.map_or("", |_| "mut ");
                faults.add(syn::Error::new(
                    token.span(),
                    format!("a parameter cannot be bound by reference: write `{by_value}{name}`, and borrow it in the body"),
                ));
            }
        }
        _ => {}
    }
}
