//! What is counted, each case as a program for callgrind.

use axum::{Router, extract::Request};
use benches::{
    Contender, Handler, handler, program,
    request::{drive, order},
};
use tokio::runtime::Runtime;
use uuid::Builder;

/// Sizes of the bodies, of the request and of the response. The aims and the baseline are for the
/// first.
pub const SIZES: [usize; 3] = [100, 4 << 10, 64 << 10];

/// Those of what sealing costs.
pub const SEALED_SIZES: [usize; 2] = [200, 64 << 10];

/// A row of the table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Row {
    /// In the baseline.
    pub name: &'static str,
    pub title: &'static str,
    pub contender: Contender,
    handler: Handler,
}

impl Row {
    const fn new(name: &'static str, title: &'static str, contender: Contender) -> Self {
        Self { name, title, contender, handler: Handler::Returns }
    }

    const fn authenticated(self) -> Self {
        Self { handler: Handler::Authenticated, ..self }
    }

    pub const ALL: [Self; 9] = [
        Self::new("bare", "bare", Contender::Bare),
        Self::new("bare-user", "bare, with a user", Contender::Bare).authenticated(),
        Self::new("by-hand", "by hand, unsafe", Contender::ByHand),
        Self::new("layer", "idempotent-axum", Contender::Ours),
        Self::new("principal", "idempotent-axum, `principal = …`", Contender::Ours).authenticated(),
        Self::new("no-layer", "idempotent-axum, no layer", Contender::OursWithoutLayer),
        Self::new("boundary", "idempotent-axum, in a boundary", Contender::OursInBoundary),
        Self::new("axum-idempotent", "axum-idempotent 0.6, unsafe", Contender::AxumIdempotent),
        Self::new("idempotent", "idempotent 2.0", Contender::Idempotent),
    ];

    /// Of what sealing costs, its yardstick first.
    pub const SEALING: [Self; 3] = [
        Self::new("shared", "a shared store", Contender::OursShared),
        Self::new("sealed", "sealed", Contender::OursSealed),
        Self::new("keyed", "sealed, with keyed digests", Contender::OursSealedAndKeyed),
    ];

    /// Whether this is the library's.
    pub fn is_ours(self) -> bool {
        matches!(
            self.contender,
            Contender::Ours | Contender::OursWithoutLayer | Contender::OursInBoundary
        )
    }

    /// What is counted in this row.
    pub fn paths(self) -> &'static [Path] {
        if self.contender.replays() { &Path::ALL } else { &[Path::NoKey] }
    }

    /// The bare handler with the same extractors.
    pub fn yardstick(self) -> Self {
        let is_yardstick =
            |row: &Self| row.contender == Contender::Bare && row.handler == self.handler;
        Self::ALL.into_iter().find(is_yardstick).expect("each handler is counted bare")
    }
}

/// What the counted requests do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Path {
    /// No request has a key.
    NoKey,
    /// Every request has a fresh key.
    First,
    /// Every request repeats an earlier one.
    Replay,
}

impl Path {
    pub const ALL: [Self; 3] = [Self::NoKey, Self::First, Self::Replay];

    /// In the baseline.
    pub fn name(self) -> &'static str {
        match self {
            Self::NoKey => "no-key",
            Self::First => "first",
            Self::Replay => "replay",
        }
    }
}

/// What one process counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Case {
    pub row: Row,
    pub path: Path,
    pub bytes: usize,
}

impl Case {
    /// These rows, with bodies of these sizes.
    pub fn all(rows: &[Row], sizes: &[usize]) -> Vec<Self> {
        let paths = |row: &Row| {
            let row = *row;
            row.paths().iter().map(move |&path| (row, path))
        };
        let cases = |&bytes: &usize| {
            rows.iter().flat_map(paths).map(move |(row, path)| Self { row, path, bytes })
        };
        sizes.iter().flat_map(cases).collect()
    }

    /// The bare handler with the same extractors and bodies; of what is sealed, the same unsealed.
    pub fn yardstick(self) -> Self {
        if Row::SEALING.contains(&self.row) {
            return Self { row: Row::SEALING[0], ..self };
        }
        Self { row: self.row.yardstick(), path: Path::NoKey, ..self }
    }

    /// Names the process and its output.
    pub fn name(self) -> String {
        format!("{}.{}.{}", self.row.name, self.path.name(), self.bytes)
    }

    /// The one of that name.
    pub fn named(name: &str) -> Option<Self> {
        let all = [Self::all(&Row::ALL, &SIZES), Self::all(&Row::SEALING, &SEALED_SIZES)];
        all.concat().into_iter().find(|case| case.name() == name)
    }

    /// How many requests are counted: with small bodies enough to even out hash seeds and the
    /// caches' housekeeping; with large ones all responses fit into the process-wide store.
    pub fn requests(self) -> usize {
        if self.bytes <= 4 << 10 { 4_000 } else { 400 }
    }

    /// Sends the requests; callgrind counts from the end of the warm-up.
    pub fn run(self) {
        let runtime = program::runtime(1);
        let Case { row, path, bytes } = self;
        let service = {
            let _guard = runtime.enter();
            row.contender.serve(row.handler)
        };
        let mut random = fastrand::Rng::with_seed(7);
        let mut key = || Builder::from_random_bytes(random.u128(..).to_be_bytes()).into_uuid();
        let mut keys = |count| -> Vec<_> {
            (0..count).map(|_| (path != Path::NoKey).then(&mut key)).collect()
        };
        let (warm_up, counted) = (keys(self.requests() / 4), keys(self.requests()));
        let body = order(bytes);
        let requests = |keys: &[_]| -> Vec<Request> {
            keys.iter().map(|&key| service.request(key, &body)).collect()
        };

        let mut router = service.router.clone();
        if path == Path::Replay {
            runtime.block_on(drive(&mut router, requests(&counted)));
        }
        runtime.block_on(drive(&mut router, requests(&warm_up)));
        let counted = requests(&counted);
        let before = handler::runs();
        callgrind_collects_here(&runtime, &mut router, counted);
        let runs = usize::try_from(handler::runs() - before).expect("a small number");
        assert_eq!(runs, if path == Path::Replay { 0 } else { self.requests() });
    }
}

/// Callgrind counts while this function runs, and finds it by this name.
#[inline(never)]
fn callgrind_collects_here(runtime: &Runtime, router: &mut Router, requests: Vec<Request>) {
    runtime.block_on(drive(router, requests));
}
