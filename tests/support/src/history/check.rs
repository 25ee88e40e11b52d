//! The search: whether the calls on one key are linearizable.
//!
//! It is Lowe's just-in-time linearization ("Testing for linearizability", 2017), which `knossos`
//! uses too: it follows the history, keeping every pair of a possible state of the key and the set
//! of calls in progress that have been applied to reach it. When a call ends, only those pairs
//! remain in which it has been applied with its answer, possibly after others. If none remains, the
//! history is not linearizable, and the call at which that shows is known.
//!
//! Two things keep the number of pairs low. A call whose answer says that it changed nothing, and
//! that would get the same answer now, is applied now: whatever comes later would be the same. And
//! a call whose answer is unknown may be applied at any time from its start on, never, once or more
//! than once, since a store may send it more than once; so there is no need to record whether it
//! was.
//!
//! The checkers on crates.io do not fit. The tester of `stateright` 0.31 does not remember where it
//! has been: ten concurrent reads before a wrong one take it half a minute, and each further one
//! ten times as long. Those of `todc-utils` 0.1 and `lincheck` 0.2 need an answer for every call,
//! and the latter also tries all orders.

use std::{collections::HashSet, error::Error, fmt};

use idempotent_runtime::StoreKey;

use super::{Asked, Call, Told, model::State};

/// Figures about a linearizable history.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Summary {
    /// How many keys there were.
    pub keys: usize,
    /// Calls that were answered.
    pub answered: usize,
    /// Calls that reached no server, as the store said.
    pub not_sent: usize,
    /// Calls of which it is unknown whether they were applied.
    pub unknown: usize,
    /// Keys whose history is linearizable only if an answered call, while the path to the server
    /// was broken, was applied more than once before its answer.
    pub repeated: usize,
    /// Keys whose history is linearizable only if such a call was also applied after its answer.
    pub late: usize,
}

/// Whether an answered call may have been applied more than once, if the path to the server broke
/// during it: a store resends a call that was not answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Repeats {
    /// It was applied once.
    Never,
    /// It may have been applied more than once before its answer.
    UnderWay,
    /// It may also be applied later: what was sent over a broken connection may still be on its
    /// way.
    Later,
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
        let Self { keys, answered, not_sent, unknown, repeated, late } = self;
        write!(
            f,
            "{answered} calls answered, {not_sent} not sent, {unknown} unknown, on {keys} keys; \
             a call was done twice on {repeated} of them, and after its answer on {late}"
        )
    }
}

/// Why the history of a key is not linearizable.
#[derive(Debug)]
pub struct Violation {
    key: StoreKey,
    /// The call that cannot have been applied with its answer.
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

/// How many of the calls that ended before the impossible one are shown.
const SHOWN: usize = 24;
/// How many calls on one key may be in progress at once.
const SLOTS: usize = u128::BITS as usize;

/// A possible state of the key, and the calls in progress, by their slots, that have been applied
/// to reach it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Reached {
    state: State,
    done: u128,
}

#[derive(Default)]
struct Search<'a> {
    reached: HashSet<Reached>,
    /// The calls in progress that have an answer.
    slots: Vec<Option<UnderWay<'a>>>,
    /// Calls that may be applied at any time from now on.
    any_time: Vec<&'a Asked>,
}

#[derive(Clone, Copy)]
struct UnderWay<'a> {
    begin: u64,
    asked: &'a Asked,
    told: &'a Told,
    /// Whether it may be applied more than once while it is in progress.
    repeats: bool,
}

/// Whether these calls on one key, which nothing has used before, are linearizable.
pub(super) fn check(
    calls: &[&Call],
    repeats: impl Fn(&Call) -> Repeats,
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
            search.begin(call, repeats(call));
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
    fn begin(&mut self, call: &'a Call, repeats: Repeats) {
        let repeats = match call.asked {
            // A store sends it only once.
            Asked::Forget { .. } => Repeats::Never,
            _ => repeats,
        };
        let at_any_time = call.told.is_none() || repeats == Repeats::Later;
        if at_any_time && call.asked.may_change() && !self.any_time.contains(&&call.asked) {
            self.any_time.push(&call.asked);
        }
        let Some(told) = &call.told else { return };
        let repeats = repeats == Repeats::UnderWay && call.asked.may_change();
        let call = UnderWay { begin: call.begin, asked: &call.asked, told, repeats };
        match self.slots.iter_mut().find(|slot| slot.is_none()) {
            Some(slot) => *slot = Some(call),
            None => self.slots.push(Some(call)),
        }
        assert!(
            self.slots.len() <= SLOTS,
            "at most {SLOTS} calls on one key are under way at once"
        );
    }

    /// Keeps what is possible if `call` has been applied by now; if nothing is, returns what was
    /// possible before.
    fn end(&mut self, call: &Call) -> Result<(), Vec<State>> {
        let is_it = |slot: &Option<UnderWay<'_>>| slot.is_some_and(|it| it.begin == call.begin);
        let slot = self.slots.iter().position(is_it).expect("it has begun");
        let ended = 1 << slot;
        let was_last_chance = self.slots[slot].is_some_and(|it| it.repeats);

        let mut seen = HashSet::new();
        let mut open: Vec<_> = self.reached.drain().collect();
        let mut next = HashSet::new();
        while let Some(mut reached) = open.pop() {
            self.observe(&mut reached);
            if !seen.insert(reached.clone()) {
                continue;
            }
            if reached.done & ended != 0 {
                let done = reached.done & !ended;
                next.insert(Reached { done, state: reached.state.clone() });
                if !was_last_chance {
                    continue;
                }
            }
            let step = |asked, done| Reached { state: reached.state.step(asked).0, done };
            for (slot, it) in self.under_way() {
                let bit = 1 << slot;
                let is_told = || it.told.is(&reached.state.step(it.asked).1);
                if reached.done & bit == 0 && is_told() {
                    open.push(step(it.asked, reached.done | bit));
                }
                if it.repeats {
                    open.push(step(it.asked, reached.done));
                }
            }
            open.extend(self.any_time.iter().map(|asked| step(asked, reached.done)));
        }
        if next.is_empty() {
            let states: HashSet<_> = seen.into_iter().map(|reached| reached.state).collect();
            return Err(states.into_iter().collect());
        }
        self.slots[slot] = None;
        self.reached = next;
        Ok(())
    }

    /// Applies all calls that only read and have seen this state.
    fn observe(&self, reached: &mut Reached) {
        for (slot, it) in self.under_way() {
            if it.asked.only_looks(it.told) && it.told.is(&reached.state.step(it.asked).1) {
                reached.done |= 1 << slot;
            }
        }
    }

    /// The calls that have begun but not ended, by their slots.
    fn under_way(&self) -> impl Iterator<Item = (usize, UnderWay<'a>)> {
        self.slots.iter().enumerate().filter_map(|(slot, call)| Some((slot, (*call)?)))
    }
}
