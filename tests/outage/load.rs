//! [`Load`]: requests on a clock, whatever becomes of earlier ones: new keys, duplicates of a
//! running request, replays, and retries of what was refused.

use std::{
    collections::{BTreeMap, HashSet, VecDeque},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use uuid::Uuid;

use crate::{history::Span, lock, service::Service};

/// A request, and when it was sent.
#[derive(Clone)]
pub(crate) struct Request {
    pub(crate) key: Arc<str>,
    pub(crate) at: Instant,
    /// Its place in the order of arrival.
    pub(crate) index: usize,
}

impl Request {
    pub(crate) fn of(key: Arc<str>) -> Self {
        Self { key, at: Instant::now(), index: 0 }
    }
}

pub(crate) struct Answer {
    pub(crate) request: Request,
    pub(crate) status: u16,
    pub(crate) is_replay: bool,
    /// The first one with the key is still running, or seems to be.
    pub(crate) is_running: bool,
    pub(crate) at: Instant,
}

impl Answer {
    pub(crate) fn is_served(&self) -> bool {
        (200..300).contains(&self.status)
    }
}

/// What was answered, in the order of the answers.
#[derive(Default)]
pub(crate) struct Answers {
    all: Mutex<Vec<Answer>>,
    keys: Mutex<Keys>,
}

/// Keys to send again.
#[derive(Default)]
struct Keys {
    served: Vec<Arc<str>>,
    refused: VecDeque<Arc<str>>,
}

impl Answers {
    fn add(&self, answer: Answer) {
        let key = Arc::clone(&answer.request.key);
        let mut keys = lock(&self.keys);
        match answer.is_served() {
            true if !answer.is_replay => keys.served.push(key),
            true => {}
            false => keys.refused.push_back(key),
        }
        drop(keys);
        lock(&self.all).push(answer);
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        lock(&self.all).len()
    }

    /// The share of requests that were served, of those that `which` picks; `None` if it picks none.
    pub(crate) fn served(&self, which: impl Fn(&Answer) -> bool) -> Option<f64> {
        let all = lock(&self.all);
        let (mut served, mut sent) = (0_u32, 0_u32);
        for answer in all.iter().filter(|answer| which(answer)) {
            sent += 1;
            served += u32::from(answer.is_served());
        }
        (sent > 0).then(|| f64::from(served) / f64::from(sent))
    }

    /// The keys whose first response was given before `time`.
    pub(crate) fn served_before(&self, time: Instant) -> HashSet<Arc<str>> {
        let all = lock(&self.all);
        let first = all.iter().filter(|it| it.is_served() && !it.is_replay && it.at < time);
        first.map(|answer| Arc::clone(&answer.request.key)).collect()
    }

    /// The requests that arrived since `since` and were not served: how many of each status, and
    /// when the last one arrived.
    pub(crate) fn refused(&self, since: Instant) -> BTreeMap<u16, (usize, Instant)> {
        let all = lock(&self.all);
        let mut refused = BTreeMap::new();
        for answer in all.iter().filter(|it| !it.is_served() && it.request.at >= since) {
            let (times, last) = refused.entry(answer.status).or_insert((0, since));
            *times += 1;
            *last = answer.request.at.max(*last);
        }
        refused
    }

    /// How many requests arrived since `since` before the first of `enough` in a row that were all
    /// served; if there are none, an error with the number that arrived.
    pub(crate) fn until_back(&self, since: Instant, enough: usize) -> Result<usize, usize> {
        let all = lock(&self.all);
        let mut served: Vec<_> = all
            .iter()
            .filter(|answer| answer.request.at >= since)
            .map(|answer| (answer.request.index, answer.is_served()))
            .collect();
        served.sort_unstable();
        let mut row = 0;
        for (place, pair) in served.iter().enumerate() {
            let (index, is_served) = *pair;
            // An unanswered one ends the row as well.
            let follows = place == 0 || served[place - 1].0 + 1 == index;
            row = if !is_served {
                0
            } else if follows {
                row + 1
            } else {
                1
            };
            if row == enough {
                return Ok(place + 1 - enough);
            }
        }
        Err(served.len())
    }
}

/// Sends until it is stopped, or dropped.
pub(crate) struct Load {
    pub(crate) answers: Arc<Answers>,
    stop: StopOnDrop,
    clock: JoinHandle<Kept>,
}

/// Ends a thread's loop, even if the row panics.
pub(crate) struct StopOnDrop(pub(crate) Arc<AtomicBool>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// How well the clock was kept.
#[derive(Clone, Copy)]
pub(crate) struct Kept {
    pub(crate) sent: usize,
    /// Requests per second.
    pub(crate) rate: f64,
    /// The longest delay of a request after its time.
    pub(crate) late: Duration,
}

impl Load {
    pub(crate) fn start(service: &Arc<Service>, rate: u32) -> Self {
        let answers = Arc::<Answers>::default();
        let stop = Arc::<AtomicBool>::default();
        let clock = {
            let (service, answers, stop) =
                (Arc::clone(service), Arc::clone(&answers), Arc::clone(&stop));
            thread::spawn(move || send(&service, &answers, &stop, rate))
        };
        Self { answers, stop: StopOnDrop(stop), clock }
    }

    /// Stops sending.
    pub(crate) fn stop(self) -> Kept {
        drop(self.stop);
        self.clock.join().expect("the clock does not panic")
    }
}

fn send(service: &Service, answers: &Arc<Answers>, stop: &AtomicBool, rate: u32) -> Kept {
    let begin = Instant::now();
    let (mut late, mut last) = (Duration::ZERO, Arc::<str>::from(""));
    let mut sent = 0;
    while !stop.load(Ordering::Relaxed) {
        let due = begin + Duration::from_secs(1) * sent / rate;
        thread::sleep(due.saturating_duration_since(Instant::now()));
        late = late.max(due.elapsed());
        let index = sent as usize;
        last = key(index, &last, &mut lock(&answers.keys));
        let request = Request { key: Arc::clone(&last), at: Instant::now(), index };
        let answers = Arc::clone(answers);
        service.send(request, move |answer| answers.add(answer));
        sent += 1;
    }
    let rate = f64::from(sent) / begin.elapsed().as_secs_f64();
    Kept { sent: sent as usize, rate, late }
}

/// Of ten requests seven have new keys, one is a duplicate of the one before, one a replay, and one
/// a retry of the oldest that was refused.
fn key(index: usize, last: &Arc<str>, keys: &mut Keys) -> Arc<str> {
    let new = || Uuid::new_v4().to_string().into();
    match index % 10 {
        7 => Arc::clone(last),
        // Older and newer ones alike.
        8 if !keys.served.is_empty() => {
            Arc::clone(&keys.served[index.wrapping_mul(7919) % keys.served.len()])
        }
        9 => keys.refused.pop_front().unwrap_or_else(new),
        _ => new(),
    }
}

/// A window of time that begins `after` past `since`.
pub(crate) fn window(since: Instant, after: Duration, length: Duration) -> Span {
    Span { begin: since + after, end: since + after + length }
}

impl Span {
    pub(crate) fn holds(&self, time: Instant) -> bool {
        (self.begin..self.end).contains(&time)
    }
}
