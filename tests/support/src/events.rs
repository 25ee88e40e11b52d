//! [`Events`]: captures what is logged, with the span it was logged in.

use std::{
    fmt,
    sync::{Arc, LazyLock, Mutex},
};

use tracing::{
    Dispatch, Level, Subscriber,
    field::{Field, Visit},
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

/// All events so far. A clone is another handle to the same list.
#[derive(Debug, Clone, Default)]
pub struct Events(Arc<Mutex<Vec<Logged>>>);

impl Events {
    /// Captures the events of the whole process: at most once in a test binary.
    ///
    /// # Panics
    ///
    /// Where something else does.
    #[must_use]
    pub fn of_process() -> Self {
        let events = Self::default();
        tracing::subscriber::set_global_default(events.subscriber()).expect("once in a process");
        events
    }

    /// Captures the events of this thread until the guard is dropped.
    #[must_use]
    pub fn of_thread() -> (Self, tracing::subscriber::DefaultGuard) {
        // While there is only one subscriber, `tracing` asks that of the thread which comes to an
        // event first whether anybody wants it, and another thread has none.
        static SECOND: LazyLock<Dispatch> = LazyLock::new(|| Dispatch::new(Registry::default()));
        LazyLock::force(&SECOND);
        let events = Self::default();
        let guard = tracing::subscriber::set_default(events.subscriber());
        (events, guard)
    }

    fn subscriber(&self) -> impl Subscriber + Send + Sync + use<> {
        Registry::default().with(self.clone())
    }

    /// All so far.
    #[must_use]
    pub fn all(&self) -> Vec<Logged> {
        lock(&self.0).clone()
    }

    /// The messages of one level.
    #[must_use]
    pub fn at(&self, level: Level) -> Vec<String> {
        let all = self.all().into_iter();
        all.filter(|event| event.level == level).map(|event| event.message).collect()
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Events {
    fn on_event(&self, event: &tracing::Event<'_>, context: Context<'_, S>) {
        #[derive(Default)]
        struct Fields {
            message: String,
            others: Vec<String>,
        }
        impl Visit for Fields {
            fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
                match field.name() {
                    "message" => self.message = format!("{value:?}"),
                    name => self.others.push(format!("{name}={value:?}")),
                }
            }
        }
        let mut fields = Fields::default();
        event.record(&mut fields);
        let scope = context.event_scope(event).into_iter();
        let spans = scope.flat_map(|scope| scope.from_root().map(|span| span.name())).collect();
        let (level, target) = (*event.metadata().level(), event.metadata().target());
        let Fields { message, others: fields } = fields;
        lock(&self.0).push(Logged { level, target, message, fields, spans });
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
}
