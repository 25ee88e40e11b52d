//! The stream of events that the page reads.

use reqwest::{Response, StatusCode};
use serde_json::json as body;

use crate::service::{ADD, Service, fresh_key, header, send};

const EVENTS: &str = "/page/events";

/// A stream that is being read.
struct Stream {
    response: Response,
    read: String,
}

impl Stream {
    /// Continues after the event with the id `since`.
    async fn open(service: &Service, since: Option<&str>) -> Self {
        let request = service.get(EVENTS);
        let response = send(match since {
            Some(id) => request.header("last-event-id", id),
            None => request,
        })
        .await;
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(header(&response, "content-type"), "text/event-stream");
        let mut stream = Self { response, read: String::new() };
        stream.until("event: connected\n").await;
        stream
    }

    /// Reads until an event contains `text`; returns everything read so far.
    async fn until(&mut self, text: &str) -> &str {
        while self.read.find(text).is_none_or(|at| !self.read[at..].contains("\n\n")) {
            let chunk = self.response.chunk().await.expect("it is not cut off");
            let chunk = chunk.unwrap_or_else(|| panic!("it ends: {}", self.read));
            self.read += std::str::from_utf8(&chunk).expect("events are not cut in two");
        }
        &self.read
    }

    /// The id of the last event.
    fn id(&self) -> String {
        let id = self.read.lines().filter_map(|line| line.strip_prefix("id: ")).next_back();
        id.expect("each event has one").to_owned()
    }
}

async fn add(service: &Service, key: &str) {
    let input = body!({"email": "ada@example.com", "entityName": "Ada Ltd"});
    send(service.post(ADD).header("idempotency-key", key).json(&input)).await;
}

#[tokio::test]
async fn each_decision_is_told_once_without_the_key() {
    let service = Service::start(&[]).await;
    let mut stream = Stream::open(&service, None).await;
    let key = fresh_key();
    for key in [key.as_str(), &key, "order-1"] {
        add(&service, key).await;
    }
    let read = stream.until("invalid_key").await;
    let decided: Vec<&str> = read.lines().filter(|line| line.contains("\"decision\"")).collect();
    let [stored, replayed, refused] = decided[..] else { panic!("{read}") };
    let operation = r#""operation":"POST /downstream-entities/onboarding/add""#;
    assert!(stored.contains(operation) && stored.contains(r#""decision":"stored""#), "{stored}");
    assert!(replayed.contains(operation) && replayed.contains(r#""status":201"#), "{replayed}");
    assert!(refused.contains(r#""key":null"#), "{refused}");
    assert_eq!(read.matches("event: created\n").count(), 1, "{read}");
    assert!(!read.contains(&key) && !read.contains("order-1"), "{read}");
}

#[tokio::test]
async fn who_comes_back_is_told_how_many_events_it_missed() {
    let service = Service::start(&[]).await;
    let mut stream = Stream::open(&service, None).await;
    add(&service, &fresh_key()).await;
    stream.until("\"decision\"").await;
    let id = stream.id();
    drop(stream);

    // Refused: one event each.
    for _ in 0..3 {
        add(&service, "order-1").await;
    }
    for (since, missed) in [
        (Some(id.as_str()), "3"),
        (None, "0"),
        // Those of another process.
        (Some("1"), "null"),
        (Some("00000000-0000-0000-0000-000000000000/1"), "null"),
    ] {
        let stream = Stream::open(&service, since).await;
        let connected = format!("event: connected\ndata: {{\"missed\":{missed}}}\n");
        assert!(stream.read.starts_with(&connected), "{since:?}: {}", stream.read);
    }
}
