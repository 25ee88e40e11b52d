//! What happens in the service, told to whoever listens, as server-sent events.

use std::{
    convert::Infallible,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use axum::response::sse;
use futures_util::{Stream, StreamExt as _, stream};
use idempotent_axum::{Decision, Event, Idempotency};
use serde::{Serialize, Serializer};
use serde_json::json;
use tokio::sync::broadcast::{self, error::RecvError};
use uuid::Uuid;

/// How many events a listener may be behind. What it misses beyond that, it is told the number of.
const CAPACITY: usize = 1024;

/// How long a browser that has lost the stream waits before it asks for it again.
const RETRY: Duration = Duration::from_secs(1);

/// Tells everything to everybody who listens. Clones tell the same.
#[derive(Clone)]
pub(crate) struct Live {
    /// Of this process: the numbers of its events mean nothing to another.
    process: Uuid,
    channel: Arc<Mutex<Channel>>,
}

struct Channel {
    /// `None` once the service ends.
    sender: Option<broadcast::Sender<Happening>>,
    /// The number of the last event.
    last: u64,
}

#[derive(Clone, Debug)]
pub(crate) enum Happening {
    /// A handler of the page calls the downstream system.
    Begun,
    /// There is one more entity.
    Created,
    Decided(Arc<Decided>),
}

/// What was decided about a request, without its key.
#[derive(Debug, Serialize)]
pub(crate) struct Decided {
    operation: String,
    /// The digest that logs show as well.
    key: Option<String>,
    decision: &'static str,
    status: Option<u16>,
    #[serde(serialize_with = "as_milliseconds")]
    ran: Option<Duration>,
    #[serde(serialize_with = "as_milliseconds")]
    waited: Option<Duration>,
}

impl Live {
    pub(crate) fn new() -> Self {
        let channel = Channel { sender: Some(broadcast::Sender::new(CAPACITY)), last: 0 };
        Self { process: Uuid::new_v4(), channel: Arc::new(Mutex::new(channel)) }
    }

    /// Tells what `idempotency` decides from now on.
    pub(crate) fn listen_to(&self, idempotency: Idempotency) -> Idempotency {
        let live = self.clone();
        idempotency.on_event(move |event| {
            if let Some(decision) = event.decision() {
                live.tell(Happening::Decided(Arc::new(Decided::new(event, decision))));
            }
        })
    }

    pub(crate) fn tell(&self, happening: Happening) {
        let mut channel = self.channel();
        channel.last += 1;
        if let Some(sender) = &channel.sender {
            // An error says that nobody listens.
            let _ = sender.send(happening);
        }
    }

    /// Ends all streams once they have told what is left: the service waits for its connections.
    pub(crate) fn end(&self) {
        self.channel().sender = None;
    }

    /// What happens from now on. It begins with `connected`, which says how many events were missed
    /// since the one with the id `since`; `null` if that was another process's.
    pub(crate) fn events(
        &self,
        since: Option<&str>,
    ) -> impl Stream<Item = Result<sse::Event, Infallible>> + use<> {
        let process = self.process;
        let id = move |number: u64| format!("{process}/{number}");
        let (receiver, last) = {
            let channel = self.channel();
            (channel.sender.as_ref().map(broadcast::Sender::subscribe), channel.last)
        };
        let missed = since.map_or(Some(0), |since| {
            let number = since.strip_prefix(&process.to_string())?.strip_prefix('/')?;
            last.checked_sub(number.parse().ok()?)
        });
        let connected = event("connected", &json!({ "missed": missed })).retry(RETRY).id(id(last));
        let further = stream::unfold((receiver, last), move |(receiver, mut last)| async move {
            let mut receiver = receiver?;
            let event = match receiver.recv().await {
                Ok(happening) => {
                    last += 1;
                    happening.event()
                }
                Err(RecvError::Lagged(missed)) => {
                    last += missed;
                    event("missed", &json!({ "missed": missed }))
                }
                Err(RecvError::Closed) => return None,
            };
            Some((event.id(id(last)), (Some(receiver), last)))
        });
        stream::iter([connected]).chain(further).map(Ok)
    }

    fn channel(&self) -> MutexGuard<'_, Channel> {
        self.channel.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Happening {
    fn event(&self) -> sse::Event {
        match self {
            Self::Begun => event("begun", &json!({})),
            Self::Created => event("created", &json!({})),
            Self::Decided(decided) => event("decided", decided.as_ref()),
        }
    }
}

impl Decided {
    fn new(event: &Event<'_>, decision: Decision) -> Self {
        Self {
            operation: event.operation().to_owned(),
            key: event.key().map(|key| key.to_string()),
            decision: decision.as_str(),
            status: event.status(),
            ran: event.run_time(),
            waited: event.wait_time(),
        }
    }
}

fn event(name: &str, data: &impl Serialize) -> sse::Event {
    let event = sse::Event::default().event(name).json_data(data);
    event.expect("its fields are texts and numbers")
}

#[expect(clippy::ref_option, reason = "serde passes the field as it is")]
fn as_milliseconds<S: Serializer>(time: &Option<Duration>, to: S) -> Result<S::Ok, S::Error> {
    time.map(|time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX)).serialize(to)
}

#[cfg(test)]
mod tests {
    use axum::{body::Body, response::IntoResponse as _};

    use super::*;

    /// The text of the first `count` events of a stream.
    async fn text(
        events: impl Stream<Item = Result<sse::Event, Infallible>> + Send + 'static,
        count: usize,
    ) -> String {
        let body: Body = sse::Sse::new(events.take(count)).into_response().into_body();
        let bytes = axum::body::to_bytes(body, usize::MAX).await.expect("it does not fail");
        String::from_utf8(bytes.to_vec()).expect("it is text")
    }

    #[tokio::test]
    async fn a_slow_reader_is_told_how_many_it_missed_and_gets_the_rest() {
        let live = Live::new();
        let events = live.events(None);
        for _ in 0..CAPACITY + 3 {
            live.tell(Happening::Created);
        }
        let text = text(events, 2 + CAPACITY).await;
        assert!(text.contains("event: missed\ndata: {\"missed\":3}\n"), "{text}");
        assert_eq!(text.matches("event: created\n").count(), CAPACITY);
        // The numbers go on behind the gap.
        let last = format!("id: {}/{}\n", live.process, CAPACITY + 3);
        assert_eq!(text.matches(&last).count(), 1, "{text}");
    }

    #[tokio::test]
    async fn what_is_left_is_told_before_the_end() {
        let live = Live::new();
        let (early, late) = (live.events(None), live.clone());
        live.tell(Happening::Begun);
        live.end();
        live.tell(Happening::Created);
        let told = text(early, usize::MAX).await;
        assert!(told.contains("event: begun\n") && !told.contains("created"), "{told}");
        let told = text(late.events(None), usize::MAX).await;
        assert!(told.starts_with("event: connected\n"), "{told}");
    }
}
