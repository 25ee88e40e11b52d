//! [`Witness`]: records everything that a service logs, answers and shows, and looks for secrets in it.

use std::{
    fmt::Write as _,
    sync::{Arc, Mutex},
};

use axum::Router;
use base64::{Engine as _, prelude::BASE64_STANDARD_NO_PAD, prelude::BASE64_URL_SAFE_NO_PAD};
use idempotent_test_support::{Answer, Ask, Events};
use tracing::subscriber::DefaultGuard;

/// Captures every event and span of this thread, of every level, until it is dropped.
pub(super) struct Witness {
    events: Events,
    _guard: DefaultGuard,
    shown: Shown,
}

/// Texts that are shown to somebody. A clone is another handle to the same list.
#[derive(Clone, Default)]
pub(super) struct Shown(Arc<Mutex<Vec<String>>>);

impl Shown {
    pub(super) fn add(&self, text: String) {
        self.0.lock().expect("no panic under the lock").push(text);
    }
}

impl Witness {
    pub(super) fn new() -> Self {
        let (events, guard) = Events::of_thread();
        Self { events, _guard: guard, shown: Shown::default() }
    }

    /// Where to add what the service shows in other ways.
    pub(super) fn shown(&self) -> Shown {
        self.shown.clone()
    }

    /// Sends a request, and records the answer.
    pub(super) async fn send(&self, ask: Ask, app: &Router) -> Answer {
        self.notes(ask.send(app).await)
    }

    /// Records status, headers and body of an answer.
    pub(super) fn notes(&self, answer: Answer) -> Answer {
        self.shown.add(answer.status.to_string());
        for (name, value) in &answer.headers {
            self.shown.add(format!("{name}: {}", value.as_bytes().escape_ascii()));
        }
        self.shown.add(String::from_utf8_lossy(&answer.body).into_owned());
        answer
    }

    /// Asserts that something was logged with this in its message.
    pub(super) fn assert_logged(&self, text: &str) {
        let all = self.events.all();
        assert!(all.iter().any(|event| event.message.contains(text)), "{text:?}: {all:#?}");
    }

    /// Asserts that none of these is in anything recorded, in any form.
    pub(super) fn assert_silent_about(&self, secrets: &[&str]) {
        let logged = self.events.all().into_iter().map(|event| format!("{event:?}"));
        let spans = self.events.spans().into_iter().map(|span| format!("{span:?}"));
        let shown = self.shown.0.lock().expect("no panic under the lock").clone();
        for text in logged.chain(spans).chain(shown) {
            for secret in secrets {
                assert!(!tells(&text, secret), "{secret:?} is in {text:?}");
            }
        }
    }
}

/// Whether `secret` is in `text`: verbatim, in hex, in base64 or as a list of bytes; for a UUID,
/// its bytes as well.
pub(crate) fn tells(text: &str, secret: &str) -> bool {
    let lower = text.to_lowercase();
    let uuid = secret.parse::<uuid::Uuid>().ok().map(|uuid| uuid.into_bytes().to_vec());
    lower.contains(&secret.to_lowercase())
        || [Some(secret.as_bytes().to_vec()), uuid].iter().flatten().any(|bytes| {
            let list = format!("{bytes:?}");
            lower.contains(&hex(bytes))
                || text.contains(list.trim_matches(['[', ']']))
                || in_base64(bytes).iter().any(|form| text.contains(form))
        })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut hex, byte| {
        write!(hex, "{byte:02x}").expect("a string takes all");
        hex
    })
}

/// The characters that encode nothing but `bytes`, in both alphabets, after 0, 1 or 2 other bytes.
fn in_base64(bytes: &[u8]) -> Vec<String> {
    let mut forms = Vec::new();
    for before in 0..3 {
        let padded = [&vec![0; before][..], bytes].concat();
        // A character has six bits: those that share bits with a neighbor are left out.
        let own = (before * 8).div_ceil(6)..padded.len() * 8 / 6;
        for alphabet in [BASE64_STANDARD_NO_PAD, BASE64_URL_SAFE_NO_PAD] {
            forms.push(alphabet.encode(&padded)[own.clone()].to_owned());
        }
    }
    forms
}

#[test]
fn a_secret_is_recognised_in_every_form() {
    const UUID: &str = "5ec2e75e-0c4d-4b1d-8f6a-9d3c7b21e0fa";
    let uuid = UUID.parse::<uuid::Uuid>().unwrap();
    for bytes in [UUID.as_bytes(), uuid.as_bytes()] {
        assert!(tells(&hex(bytes), UUID));
        assert!(tells(&hex(bytes).to_uppercase(), UUID));
        assert!(tells(&format!("{bytes:?}"), UUID));
        for around in ["", "a", "ab", "abc"] {
            let whole = [around.as_bytes(), bytes, around.as_bytes()].concat();
            assert!(tells(&BASE64_STANDARD_NO_PAD.encode(&whole), UUID), "{around}");
            assert!(tells(&BASE64_URL_SAFE_NO_PAD.encode(&whole), UUID), "{around}");
        }
    }
    assert!(tells(&format!("the key \"{}\"", UUID.to_uppercase()), UUID));
    assert!(tells(&uuid.simple().to_string(), UUID));
    assert!(!tells("5ec2e75e-0c4d-4b1d-8f6a-9d3c7b21e0fb", UUID));
}
