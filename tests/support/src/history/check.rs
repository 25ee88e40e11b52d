//! The search: whether the calls on one key are linearizable.
//!
//! It is Lowe's just-in-time linearization ("Testing for linearizability", 2017), which `knossos`
//! uses as well: it follows the history and keeps every pair of what the key may hold and which of
//! the calls under way have been done for that. At the end of a call those pairs stay in which it
//! has been done with its answer, if need be after others. If none is left, the history is not
//! linearizable, and the call at which that shows is known.
//!
//! Two things keep the pairs few. A call that has changed nothing, as its answer says, and is told
//! what would be told now, is done now: whatever comes later would come the same. And a call whose answer is unknown may be
//! done at any time from its begin on, never, once or more than once, as a store may send it more
//! than once; so it need not be noted whether it was.
//!
//! The checkers in the registry do not fit. The tester of `stateright` 0.31 has no memory of where it
//! has been, so its time is exponential in the length of a history, and brings the crate's web server
//! along; the one of `todc-utils` 0.1 takes complete histories only and copies all of a history's
//! bits at each step; `lincheck` 0.2 runs data structures under `loom`.

use std::{collections::HashSet, error::Error, fmt};

use idempotent_runtime::StoreKey;

use super::{Asked, Call, Told, model::State};

/// Figures of a history that is linearizable.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Summary {
    /// How many keys there were.
    pub keys: usize,
    /// Calls that were answered.
    pub answered: usize,
    /// Calls that reached no server, as the store said.
    pub not_sent: usize,
    /// Calls of which it is not known whether they were done.
    pub unknown: usize,
    /// Keys whose history is linearizable only if a call that was answered, while the way to the
    /// server broke, was done once more.
    pub repeated: usize,
}

impl Summary {
    pub(super) fn count(&mut self, calls: &[&Call]) {
        for call in calls.iter().filter(|call| call.asked != Asked::Wait) {
            *match call.told {
                Some(Told::NotSent) => &mut self.not_sent,
                Some(_) => &mut self.answered,
                None => &mut self.unknown,
            } += 1;
        }
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { keys, answered, not_sent, unknown, repeated } = self;
        write!(
            f,
            "{answered} calls answered, {not_sent} not sent, {unknown} unknown, on {keys} keys; \
             {repeated} keys met a call that was done twice"
        )
    }
}

/// Why the history of a key is not linearizable.
#[derive(Debug)]
pub struct Violation {
    key: StoreKey,
    /// The call that cannot have been done with its answer.
    pub call: Call,
    before: Vec<Call>,
    states: Vec<State>,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "the history of key {} is not linearizable:", self.key)?;
        for call in &self.before {
            writeln!(f, "    {call}")?;
        }
        writeln!(f, "then cannot be:\n    {}\nfor the key may hold", self.call)?;
        for state in self.states.iter().take(8) {
            writeln!(f, "    {state:?}")?;
        }
        match self.states.len().saturating_sub(8) {
            0 => Ok(()),
            more => writeln!(f, "    and {more} more"),
        }
    }
}

impl Error for Violation {}

/// How many calls that end before the one that cannot be are shown.
const SHOWN: usize = 24;
/// How many calls on one key may be under way at once.
const SLOTS: usize = u128::BITS as usize;

/// What the key may hold, and the calls under way, by their slots, that have been done for it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Reached {
    state: State,
    done: u128,
}

#[derive(Default)]
struct Search<'a> {
    reached: HashSet<Reached>,
    /// The calls under way that have an answer.
    slots: Vec<Option<&'a Call>>,
    /// What may be done at any time from now on.
    any_time: Vec<&'a Asked>,
}

/// Whether these calls on one key, which nobody has used before, are linearizable, if those for
/// which `may_repeat` is so may be done again at any time after their begin.
pub(super) fn check(
    calls: &[&Call],
    may_repeat: impl Fn(&Call) -> bool,
) -> Result<(), Box<Violation>> {
    let is_step = |call: &&&Call| call.asked != Asked::Wait && call.told != Some(Told::NotSent);
    let mut events: Vec<_> = calls
        .iter()
        .filter(is_step)
        .flat_map(|call| {
            let end = call.end.filter(|_| call.told.is_some());
            [Some((call.begin, *call, true)), end.map(|end| (end, *call, false))]
        })
        .flatten()
        .collect();
    events.sort_unstable_by_key(|(when, ..)| *when);

    let mut search = Search::default();
    search.reached.insert(Reached { state: State::Absent, done: 0 });
    for (when, call, begins) in events {
        if begins {
            search.begin(call, may_repeat(call));
        } else if let Err(states) = search.end(call) {
            let mut before: Vec<_> =
                calls.iter().filter(|call| call.begin < when).map(|&call| call.clone()).collect();
            before.retain(|other| other.begin != call.begin);
            before.drain(..before.len().saturating_sub(SHOWN));
            return Err(Box::new(Violation { key: call.key, call: call.clone(), before, states }));
        }
    }
    Ok(())
}

impl<'a> Search<'a> {
    fn begin(&mut self, call: &'a Call, may_repeat: bool) {
        let is_any_time = call.told.is_none() || may_repeat;
        if is_any_time && call.asked.may_change() && !self.any_time.contains(&&call.asked) {
            self.any_time.push(&call.asked);
        }
        if call.told.is_none() {
            return;
        }
        match self.slots.iter_mut().find(|slot| slot.is_none()) {
            Some(slot) => *slot = Some(call),
            None => self.slots.push(Some(call)),
        }
        assert!(
            self.slots.len() <= SLOTS,
            "at most {SLOTS} calls on one key are under way at once"
        );
    }

    /// Keeps what is possible if `call` has been done by now; otherwise gives what was possible.
    fn end(&mut self, call: &Call) -> Result<(), Vec<State>> {
        let is_it = |slot: &Option<&Call>| slot.is_some_and(|other| other.begin == call.begin);
        let slot = self.slots.iter().position(is_it).expect("it has begun");
        let ended = 1 << slot;

        let mut seen = HashSet::new();
        let mut open: Vec<_> = self.reached.drain().collect();
        let mut next = HashSet::new();
        while let Some(mut reached) = open.pop() {
            self.observe(&mut reached);
            if !seen.insert(reached.clone()) {
                continue;
            }
            if reached.done & ended != 0 {
                next.insert(Reached { done: reached.done & !ended, ..reached });
                continue;
            }
            let calls = self.under_way(reached.done);
            open.extend(calls.filter_map(|(bit, asked, told)| {
                let (state, expected) = reached.state.step(asked);
                told.is(&expected).then_some(Reached { state, done: reached.done | bit })
            }));
            open.extend(self.any_time.iter().filter_map(|asked| {
                let state = reached.state.step(asked).0;
                (state != reached.state).then_some(Reached { state, done: reached.done })
            }));
        }
        if next.is_empty() {
            let states: HashSet<_> = seen.into_iter().map(|reached| reached.state).collect();
            return Err(states.into_iter().collect());
        }
        self.slots[slot] = None;
        self.reached = next;
        Ok(())
    }

    /// Does all calls that only look, and have seen this.
    fn observe(&self, reached: &mut Reached) {
        for (bit, asked, told) in self.under_way(reached.done) {
            if asked.only_looks(told) && told.is(&reached.state.step(asked).1) {
                reached.done |= bit;
            }
        }
    }

    /// The calls that have begun, have not ended and are not among those that are `done`.
    fn under_way(&self, done: u128) -> impl Iterator<Item = (u128, &'a Asked, &'a Told)> {
        self.slots.iter().enumerate().filter_map(move |(slot, call)| {
            let (bit, call) = (1 << slot, (*call)?);
            let told = call.told.as_ref()?;
            (done & bit == 0).then_some((bit, &call.asked, told))
        })
    }
}
