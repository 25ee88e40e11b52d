//! [`Place`]: how the extractor and the attribute find each other, through the request's
//! extensions.

use http::Extensions;

use crate::{
    http::known::Known,
    store::{
        Slot,
        postgres::{Isolation, Taken},
    },
};

/// The place for a request's transaction.
#[derive(Clone, Default)]
pub(crate) struct Place(Slot);

impl Place {
    /// Takes the place of the request with these extensions.
    ///
    /// A request that a handler builds from its own request's extensions gets a separate place: it
    /// has no part in the other request's transaction.
    pub(super) fn take(extensions: &mut Extensions, isolation: Isolation) -> Result<Slot, Taken> {
        let Self(slot) = Self::of(extensions);
        slot.want(isolation)?;
        Ok(slot)
    }

    /// The slot of a request whose last parameter has not been extracted yet, if that parameter may
    /// look for it or an earlier one has.
    pub(in crate::http) fn of_request(known: Known, extensions: &mut Extensions) -> Option<Slot> {
        match known {
            Known::No => Some(Self::of(extensions).0),
            Known::Json | Known::Plain => Self::unused(extensions).map(|Self(slot)| slot),
        }
    }

    fn of(extensions: &mut Extensions) -> Self {
        Self::unused(extensions).unwrap_or_else(|| {
            let place = Self::default();
            extensions.insert(place.clone());
            place
        })
    }

    fn unused(extensions: &Extensions) -> Option<Self> {
        extensions.get::<Self>().filter(|Self(slot)| !slot.has_begun()).cloned()
    }
}
