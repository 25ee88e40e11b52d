//! Above an enum.
use idempotent_axum::idempotent;

#[idempotent]
pub enum Handler {
    Invite,
}

fn main() {
    let _ = Handler::Invite;
}
