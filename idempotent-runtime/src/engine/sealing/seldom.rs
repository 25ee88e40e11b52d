//! [`Seldom`]: reports something only now and then, however often it happens.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// How long it is silent after a report.
const SILENCE: Duration = Duration::from_secs(10);

#[derive(Debug, Default)]
pub(super) struct Seldom(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    told: Option<Instant>,
    /// How often it has happened since then.
    times: u64,
}

impl Seldom {
    /// Records that it has happened; returns how often it has since the last report, if it should
    /// be reported now.
    pub(super) fn tell(&self) -> Option<u64> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.times += 1;
        if state.told.is_some_and(|told| told.elapsed() < SILENCE) {
            return None;
        }
        state.told = Some(Instant::now());
        Some(std::mem::take(&mut state.times))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The clock is virtual.
    #[tokio::test(start_paused = true)]
    async fn it_is_told_at_once_and_then_once_in_a_while() {
        let seldom = Seldom::default();
        let mut told = Vec::new();
        for second in 0..25 {
            told.extend(seldom.tell().map(|times| (second, times)));
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        assert_eq!(told, [(0, 1), (10, 10), (20, 10)]);
    }
}
