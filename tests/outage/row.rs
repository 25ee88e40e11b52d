//! [`run`]: one row from its start to its figures.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use crate::{
    After, Form, connections,
    faults::{Row, Scene},
    history::{Cause, Span},
    judge,
    load::{Answers, Kept, Load, Request, StopOnDrop, window},
    service::{LEASE, Service},
};

/// The figures of a row.
pub(crate) struct Measured {
    /// Shares of the requests that arrived before the outage, in it, and in one second each that
    /// begins 5 s and 15 s after it.
    pub(crate) before: Option<f64>,
    pub(crate) during: Option<f64>,
    /// Of those that arrived in the outage, with keys whose response was stored and given before it.
    pub(crate) known: Option<f64>,
    pub(crate) after_5s: Option<f64>,
    pub(crate) after_15s: Option<f64>,
    /// How many requests arrived after the return until all were served, or, as an error, how many
    /// arrived in vain.
    pub(crate) until_back: Result<usize, usize>,
    /// What was refused after the return: how many by status, and the time of the last.
    pub(crate) refused: BTreeMap<u16, (usize, Duration)>,
    /// Tasks of the library and its client: under load before the outage, and the most.
    pub(crate) tasks_before: usize,
    pub(crate) tasks: usize,
    /// The most connections that the server had.
    pub(crate) connections: usize,
    /// From when the last request was answered, with the store away; `None` if it did not end.
    pub(crate) drain: Option<Duration>,
    /// Second runs within the ttl.
    pub(crate) again: BTreeMap<Cause, usize>,
    /// Keys that have run and at last had no answer: refused, or running for ever.
    pub(crate) stuck: usize,
    /// Requests that had no answer.
    pub(crate) unanswered: usize,
    pub(crate) kept: Kept,
}

pub(crate) fn run(row: &Row, form: Form) -> Measured {
    let scene = (row.scene)();
    let service = Arc::new(Service::start(&scene.access, row.has_copies));
    let load = Load::start(&service, row.rate(form));
    let answers = Arc::clone(&load.answers);
    let most = Most::watch(&service, &scene.ports);
    thread::sleep(form.before);
    let tasks_before = most.tasks.load(Ordering::Relaxed);

    let first = outage(&scene, || thread::sleep(form.outage));
    let returned = first.end;
    let until_back = observe(&answers, returned, row, form);
    let refused = answers.refused(returned);

    let mut outages = vec![first];
    let (kept, drain) = if scene.is_repeatable {
        let begin = Instant::now();
        (scene.begin)();
        thread::sleep(form.again);
        let end = end(load, &service);
        (scene.end)();
        outages.push(Span { begin, end: Instant::now() });
        end
    } else {
        end(load, &service)
    };
    let unanswered = kept.sent - answers.count();
    let stuck = sweep(&service);
    let (tasks, connections) = most.stop();

    let mut again = BTreeMap::new();
    for cause in service.history.second_runs(&outages, LEASE, row.loses_writes) {
        *again.entry(cause).or_default() += 1;
    }
    let in_window = |after: u64| {
        let span = window(returned, Duration::from_secs(after), Duration::from_secs(1));
        // A row that was looked at for less has other answers there, or none.
        let is_whole = outages.get(1).is_none_or(|second| second.begin >= span.end);
        is_whole.then(|| answers.served(|answer| span.holds(answer.request.at))).flatten()
    };
    let was_before = |at: Instant| at < first.begin;
    let (mut known, given) =
        (service.history.stored_before(first.begin), answers.served_before(first.begin));
    known.retain(|key| given.contains(key));
    Measured {
        before: answers.served(|answer| was_before(answer.at)),
        during: answers.served(|answer| !was_before(answer.at) && answer.request.at < first.end),
        known: answers.served(|it| first.holds(it.request.at) && known.contains(&it.request.key)),
        after_5s: in_window(5),
        after_15s: in_window(15),
        until_back,
        refused: refused
            .into_iter()
            .map(|(status, (times, last))| (status, (times, last - returned)))
            .collect(),
        tasks_before,
        tasks,
        connections,
        drain,
        again,
        stuck,
        unanswered,
        kept,
    }
}

/// The fault, and how long it lasted, both changes included.
fn outage(scene: &Scene, during: impl FnOnce()) -> Span {
    let begin = Instant::now();
    (scene.begin)();
    during();
    (scene.end)();
    Span { begin, end: Instant::now() }
}

/// Looks until the service is back, or for the form's time.
fn observe(answers: &Answers, returned: Instant, row: &Row, form: Form) -> Result<usize, usize> {
    let enough = row.rate(form) as usize; // all of one second
    if let After::Time(time) = form.after {
        thread::sleep(time);
    }
    loop {
        let until_back = answers.until_back(returned, enough);
        let limit = judge::back_within(row) + 2 * enough;
        let is_over = form.after != After::Back || until_back.is_err_and(|sent| sent > limit);
        if until_back.is_ok() || is_over {
            return until_back;
        }
        thread::sleep(Duration::from_millis(50));
    }
}

/// Ends the load, and drains once every request is answered.
fn end(load: Load, service: &Service) -> (Kept, Option<Duration>) {
    let kept = load.stop();
    while service.unanswered() > 0 {
        thread::sleep(Duration::from_millis(10));
    }
    (kept, service.drain())
}

/// Sends every key that has run once more, until it has its answer; how many have none.
fn sweep(service: &Arc<Service>) -> usize {
    const CLIENTS: usize = 8;
    const PATIENCE: Duration = Duration::from_secs(60);
    let keys = service.history.keys();
    let (next, stuck) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let is_settled = |key: &Arc<str>| {
        let since = Instant::now();
        while since.elapsed() < PATIENCE {
            let answer = service.ask(Request::of(Arc::clone(key)));
            // A response that could not be stored is an answer as well.
            if answer.is_served() || (answer.status == 409 && !answer.is_running) {
                return true;
            }
            thread::sleep(Duration::from_millis(100));
        }
        false
    };
    thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                while let Some(key) = keys.get(next.fetch_add(1, Ordering::Relaxed)) {
                    // After one that is stuck the others are not waited for.
                    if stuck.load(Ordering::Relaxed) > 0 || !is_settled(key) {
                        stuck.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    stuck.into_inner()
}

/// The most tasks and connections of a service, looked at ten times a second.
struct Most {
    tasks: Arc<AtomicUsize>,
    connections: Arc<AtomicUsize>,
    stop: StopOnDrop,
    looking: thread::JoinHandle<()>,
}

impl Most {
    fn watch(service: &Arc<Service>, ports: &[u16]) -> Self {
        let (tasks, connections) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
        let stop = Arc::<AtomicBool>::default();
        let looking = {
            let (service, ports) = (Arc::clone(service), ports.to_vec());
            let (tasks, connections) = (Arc::clone(&tasks), Arc::clone(&connections));
            let stop = Arc::clone(&stop);
            thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    tasks.fetch_max(service.tasks(), Ordering::Relaxed);
                    connections.fetch_max(connections::count(&ports), Ordering::Relaxed);
                    thread::sleep(Duration::from_millis(100));
                }
            })
        };
        Self { tasks, connections, stop: StopOnDrop(stop), looking }
    }

    fn stop(self) -> (usize, usize) {
        drop(self.stop);
        self.looking.join().expect("looking does not panic");
        (self.tasks.load(Ordering::Relaxed), self.connections.load(Ordering::Relaxed))
    }
}
