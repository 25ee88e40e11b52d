//! [`Events`]: captures what is logged, with the spans it was logged in.

use std::{
    fmt,
    sync::{Arc, LazyLock, Mutex},
};

use tracing::{
    Dispatch, Level, Subscriber,
    field::{Field, Visit},
    span::{Attributes, Id, Record},
};
use tracing_subscriber::{
    Layer, Registry,
    layer::{Context, SubscriberExt as _},
    registry::LookupSpan,
};

use crate::lock;

/// One event.
#[derive(Debug, Clone)]
pub struct Logged {
    /// Its level.
    pub level: Level,
    /// The module that logged it.
    pub target: &'static str,
    /// Its message.
    pub message: String,
    /// Its other fields, as `name=value` each.
    pub fields: Vec<String>,
    /// The names of the spans around it, the innermost last.
    pub spans: Vec<&'static str>,
}

/// One span.
#[derive(Debug, Clone)]
pub struct Opened {
    /// Its level.
    pub level: Level,
    /// The module that opened it.
    pub target: &'static str,
    /// Its name.
    pub name: &'static str,
    /// Its fields, as `name=value` each, including those recorded after it was opened.
    pub fields: Vec<String>,
}

/// All events and spans so far, of every level. A clone is another handle to the same lists.
#[derive(Debug, Clone, Default)]
pub struct Events {
    events: Arc<Mutex<Vec<Logged>>>,
    spans: Arc<Mutex<Vec<(Id, Opened)>>>,
}

impl Events {
    /// Captures the events and spans of this thread until the guard is dropped.
    #[must_use]
    pub fn of_thread() -> (Self, tracing::subscriber::DefaultGuard) {
        // While there is only one subscriber, `tracing` asks that of the thread that first reaches
        // an event whether anyone wants it, and another thread has none.
        static SECOND: LazyLock<Dispatch> = LazyLock::new(|| Dispatch::new(Registry::default()));
        LazyLock::force(&SECOND);
        let events = Self::default();
        let guard = tracing::subscriber::set_default(events.subscriber());
        (events, guard)
    }

    fn subscriber(&self) -> impl Subscriber + Send + Sync + use<> {
        Registry::default().with(self.clone())
    }

    /// All events so far.
    #[must_use]
    pub fn all(&self) -> Vec<Logged> {
        lock(&self.events).clone()
    }

    /// All spans so far.
    #[must_use]
    pub fn spans(&self) -> Vec<Opened> {
        lock(&self.spans).iter().map(|(_, span)| span.clone()).collect()
    }

    /// The messages of one level.
    #[must_use]
    pub fn at(&self, level: Level) -> Vec<String> {
        let all = self.all().into_iter();
        all.filter(|event| event.level == level).map(|event| event.message).collect()
    }
}

/// What an event or a span has.
#[derive(Default)]
struct Fields {
    message: String,
    others: Vec<String>,
}

impl Fields {
    fn all(self) -> Vec<String> {
        let message = (!self.message.is_empty()).then(|| format!("message={}", self.message));
        message.into_iter().chain(self.others).collect()
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        match field.name() {
            "message" => self.message = format!("{value:?}"),
            name => self.others.push(format!("{name}={value:?}")),
        }
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Events {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, _: Context<'_, S>) {
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        let metadata = attributes.metadata();
        let (level, target, name) = (*metadata.level(), metadata.target(), metadata.name());
        let span = Opened { level, target, name, fields: fields.all() };
        lock(&self.spans).push((id.clone(), span));
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, _: Context<'_, S>) {
        let mut fields = Fields::default();
        values.record(&mut fields);
        // Ids are reused: the span is the last one opened with this id.
        if let Some((_, span)) = lock(&self.spans).iter_mut().rfind(|(opened, _)| opened == id) {
            span.fields.extend(fields.all());
        }
    }

    fn on_event(&self, event: &tracing::Event<'_>, context: Context<'_, S>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let scope = context.event_scope(event).into_iter();
        let spans = scope.flat_map(|scope| scope.from_root().map(|span| span.name())).collect();
        let (level, target) = (*event.metadata().level(), event.metadata().target());
        let Fields { message, others: fields } = fields;
        lock(&self.events).push(Logged { level, target, message, fields, spans });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_that_another_thread_comes_to_first_is_captured() {
        fn event() {
            tracing::info!("here");
        }

        let (events, _guard) = Events::of_thread();
        std::thread::spawn(event).join().unwrap();
        event();
        assert_eq!(events.at(Level::INFO), ["here"]);
    }

    #[test]
    fn a_span_has_the_fields_that_were_recorded_later_as_well() {
        let (events, _guard) = Events::of_thread();
        let span = tracing::trace_span!("job", number = 7, later = tracing::field::Empty);
        span.record("later", "now");
        let [job] = &events.spans()[..] else { panic!("one span") };
        assert_eq!((job.name, job.level), ("job", Level::TRACE));
        assert_eq!(job.fields, ["number=7", "later=\"now\""]);
    }
}
