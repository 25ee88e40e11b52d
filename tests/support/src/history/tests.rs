//! Histories written by hand: a wrong one for each rule of the table, and correct ones that are
//! harder to recognize.

use bytes::Bytes;
use idempotent_runtime::{Fingerprint, StoreKey, Token};

use super::{Asked, Asker, Call, Disturbance, History, Summary, Told, Violation};

const A: Asker = asker(1);
const B: Asker = asker(2);
const READ: Asked = Asked::Read;
const FORGET: Asked = Asked::Forget { even_if_running: false };
const FREE: Asked = Asked::Forget { even_if_running: true };

const fn asker(number: u8) -> Asker {
    let (token, fingerprint) = ([number; 16], [number; 16]);
    Asker { token: Token::from_bytes(token), fingerprint: Fingerprint::from_bytes(fingerprint) }
}

fn record(text: &'static str) -> Bytes {
    Bytes::from_static(text.as_bytes())
}

fn complete(asker: Asker) -> Asked {
    Asked::Complete(asker, record("record"))
}

fn running(asker: Asker) -> Told {
    Told::Running(Some(asker.fingerprint))
}

fn stored(asker: Asker) -> Told {
    Told::Stored(asker.fingerprint, record("record"))
}

/// A call from `begin` to `end` on the one key of these histories.
fn call(begin: u64, end: u64, asked: Asked, told: impl Into<Option<Told>>) -> Call {
    let key = StoreKey::from_bytes([0; 16]);
    Call { instance: 0, key, asked, begin, end: Some(end), told: told.into() }
}

/// Calls that follow each other.
fn sequence(calls: impl IntoIterator<Item = (Asked, Told)>) -> Vec<Call> {
    let calls = (0..).zip(calls);
    calls.map(|(number, (asked, told))| call(2 * number, 2 * number + 1, asked, told)).collect()
}

fn is_linearizable(calls: Vec<Call>) -> bool {
    History { calls, disturbances: Vec::new() }.check().is_ok()
}

macro_rules! wrong {
    ($($name:ident: $($asked:expr => $told:expr),*; then $wrong:expr => $wrongly:expr;
        not $rightly:expr;)*) => {
        $(#[test]
        fn $name() {
            let calls = |told| sequence([$(($asked, $told),)* ($wrong, told)]);
            assert!(!is_linearizable(calls($wrongly)));
            assert!(is_linearizable(calls($rightly)));
        })*
    };
}

wrong! {
    an_absent_key_is_claimed: ; then Asked::Claim(A) => running(B); not Told::Claimed;
    a_running_key_is_not_claimed_by_another: Asked::Claim(A) => Told::Claimed;
        then Asked::Claim(B) => Told::Claimed; not running(A);
    a_running_key_is_claimed_again_by_its_token: Asked::Claim(A) => Told::Claimed;
        then Asked::Claim(A) => running(A); not Told::Claimed;
    a_running_key_shows_its_own_fingerprint: Asked::Claim(A) => Told::Claimed;
        then Asked::Claim(B) => running(B); not Told::Running(None);
    a_stored_key_is_not_claimed: Asked::Claim(A) => Told::Claimed, complete(A) => Told::Held;
        then Asked::Claim(B) => Told::Claimed; not stored(A);
    a_stored_key_is_not_claimed_by_its_token:
        Asked::Claim(A) => Told::Claimed, complete(A) => Told::Held;
        then Asked::Claim(A) => Told::Claimed; not stored(A);
    a_holder_renews: Asked::Claim(A) => Told::Claimed;
        then Asked::Renew(A) => Told::Lost; not Told::Held;
    a_stranger_does_not_renew: Asked::Claim(A) => Told::Claimed;
        then Asked::Renew(B) => Told::Held; not Told::Lost;
    a_record_is_not_renewed: Asked::Claim(A) => Told::Claimed, complete(A) => Told::Held;
        then Asked::Renew(A) => Told::Held; not Told::Lost;
    a_holder_completes: Asked::Claim(A) => Told::Claimed;
        then complete(A) => Told::Lost; not Told::Held;
    a_stranger_does_not_complete: Asked::Claim(A) => Told::Claimed;
        then complete(B) => Told::Held; not Told::Lost;
    an_absent_key_is_not_completed: ; then complete(A) => Told::Held; not Told::Lost;
    a_record_is_completed_again_by_its_token:
        Asked::Claim(A) => Told::Claimed, complete(A) => Told::Held;
        then complete(A) => Told::Lost; not Told::Held;
    a_lost_completion_changes_nothing: Asked::Claim(A) => Told::Claimed, complete(B) => Told::Lost;
        then READ => stored(A); not running(A);
    a_completion_is_there:
        Asked::Claim(A) => Told::Claimed, complete(A) => Told::Held;
        then READ => running(A); not stored(A);
    a_second_completion_changes_nothing: Asked::Claim(A) => Told::Claimed, complete(A) => Told::Held,
        Asked::Complete(A, record("other")) => Told::Held;
        then READ => Told::Stored(A.fingerprint, record("other")); not stored(A);
    a_release_frees: Asked::Claim(A) => Told::Claimed, Asked::Release(A) => Told::Done;
        then READ => running(A); not Told::Absent;
    a_strangers_release_does_nothing:
        Asked::Claim(A) => Told::Claimed, Asked::Release(B) => Told::Done;
        then READ => Told::Absent; not running(A);
    a_release_leaves_a_record: Asked::Claim(A) => Told::Claimed, complete(A) => Told::Held,
        Asked::Release(A) => Told::Done;
        then READ => Told::Absent; not stored(A);
    a_read_changes_nothing: READ => Told::Absent;
        then Asked::Claim(A) => running(B); not Told::Claimed;
    a_read_tells_who_runs: Asked::Claim(A) => Told::Claimed; then READ => running(B); not running(A);
    an_absent_key_is_not_freed: ; then FREE => Told::Freed; not Told::Absent;
    a_running_key_is_spared: Asked::Claim(A) => Told::Claimed;
        then FORGET => Told::Freed; not Told::StillRunning;
    a_spared_run_goes_on: Asked::Claim(A) => Told::Claimed, FORGET => Told::StillRunning;
        then READ => Told::Absent; not running(A);
    a_running_key_is_freed_if_asked_to: Asked::Claim(A) => Told::Claimed;
        then FREE => Told::StillRunning; not Told::Freed;
    a_freed_run_is_lost: Asked::Claim(A) => Told::Claimed, FREE => Told::Freed;
        then complete(A) => Told::Held; not Told::Lost;
    a_record_is_forgotten: Asked::Claim(A) => Told::Claimed, complete(A) => Told::Held,
        FORGET => Told::Freed;
        then READ => stored(A); not Told::Absent;
    a_record_is_forgotten_once: Asked::Claim(A) => Told::Claimed, complete(A) => Told::Held,
        FORGET => Told::Freed;
        then FORGET => Told::Freed; not Told::Absent;
}

#[test]
fn of_two_claims_at_once_one_is_told_so() {
    let claims =
        |told| vec![call(0, 3, Asked::Claim(A), Told::Claimed), call(1, 2, Asked::Claim(B), told)];
    assert!(is_linearizable(claims(running(A))));
    assert!(!is_linearizable(claims(Told::Claimed)));
}

#[test]
fn calls_at_once_may_have_been_done_in_any_order() {
    // The read sees the record, so the completion came first, and before it the claim.
    let calls = vec![
        call(0, 9, complete(A), Told::Held),
        call(1, 8, Asked::Claim(A), Told::Claimed),
        call(2, 3, READ, Told::Absent),
        call(4, 5, READ, running(A)),
        call(6, 7, READ, stored(A)),
    ];
    assert!(is_linearizable(calls.clone()));
    let back = [calls, vec![call(10, 11, READ, running(A))]].concat();
    assert!(!is_linearizable(back));
}

/// A release and a repeated claim get the same answer whether or not they change something.
#[test]
fn a_call_that_might_change_nothing_may_have_changed_something() {
    let calls = |told| {
        vec![
            call(0, 1, READ, Told::Absent),
            call(2, 5, Asked::Claim(A), Told::Claimed),
            call(3, 7, Asked::Release(A), Told::Done),
            call(4, 9, Asked::Claim(A), Told::Claimed),
            call(6, 8, READ, Told::Absent),
            call(10, 11, READ, told),
        ]
    };
    assert!(is_linearizable(calls(running(A))));
    assert!(is_linearizable(calls(Told::Absent)));
    assert!(!is_linearizable(calls(running(B))));
}

#[test]
fn an_unknown_call_may_have_been_done() {
    let calls = |told| vec![call(0, 1, Asked::Claim(A), None), call(2, 3, READ, told)];
    assert!(is_linearizable(calls(running(A))));
    assert!(is_linearizable(calls(Told::Absent)));
    assert!(!is_linearizable(calls(running(B))));
}

#[test]
fn an_unknown_call_may_be_done_later_or_never() {
    let calls = |told| {
        vec![
            call(0, 1, Asked::Claim(A), Told::Claimed),
            call(2, 3, complete(A), None),
            call(4, 5, READ, running(A)),
            call(6, 7, Asked::Renew(A), Told::Held),
            call(8, 9, READ, told),
        ]
    };
    assert!(is_linearizable(calls(stored(A))));
    assert!(is_linearizable(calls(running(A))));
    assert!(!is_linearizable(calls(Told::Absent)));
}

#[test]
fn an_unknown_call_is_not_done_before_it_begins() {
    let calls = vec![call(0, 1, READ, running(A)), call(2, 3, Asked::Claim(A), None)];
    assert!(!is_linearizable(calls));
}

#[test]
fn a_call_that_was_not_sent_was_not_done() {
    let calls = |told| vec![call(0, 1, Asked::Claim(A), Told::NotSent), call(2, 3, READ, told)];
    assert!(is_linearizable(calls(Told::Absent)));
    assert!(!is_linearizable(calls(running(A))));
}

#[test]
fn unknown_calls_act_on_each_other() {
    let calls = vec![
        call(0, 1, Asked::Claim(A), None),
        call(2, 3, complete(A), None),
        call(4, 5, FORGET, None),
        call(6, 7, Asked::Claim(B), Told::Claimed),
    ];
    let after = |asked, told| {
        let mut calls = calls.clone();
        calls.push(call(8, 9, asked, told));
        is_linearizable(calls)
    };
    assert!(after(READ, running(B)));
    assert!(!after(READ, running(A)), "nobody frees a running key");
    assert!(!after(Asked::Renew(B), Told::Lost));
}

/// A store resends a call that was not answered.
#[test]
fn a_disturbed_call_may_have_been_done_twice() {
    // Claimed, and claimed again after somebody has freed it.
    let calls = vec![
        call(0, 9, Asked::Claim(A), Told::Claimed),
        call(1, 2, FREE, Told::Freed),
        call(3, 4, READ, Told::Absent),
        call(5, 6, READ, running(A)),
    ];
    let summary = disturbed(&calls, 1, Some(2)).unwrap();
    assert_eq!((summary.repeated, summary.late), (1, 0));
    disturbed(&calls, 10, None).expect_err("the call ended earlier");
    assert!(!is_linearizable(calls));
}

/// But for `forget`, which could free what came after the first.
#[test]
fn a_disturbed_forget_is_done_once() {
    let calls = vec![
        call(0, 1, Asked::Claim(A), Told::Claimed),
        call(2, 9, FREE, Told::Freed),
        call(3, 4, READ, Told::Absent),
        call(5, 6, Asked::Claim(B), Told::Claimed),
        call(7, 8, READ, Told::Absent),
    ];
    disturbed(&calls, 2, Some(3)).expect_err("it is sent once");
}

/// And what was sent first may be applied last.
#[test]
fn a_disturbed_call_may_be_done_after_its_answer() {
    let calls = vec![
        call(0, 3, Asked::Claim(A), Told::Claimed),
        call(4, 5, FREE, Told::Freed),
        call(6, 7, READ, running(A)),
    ];
    let summary = disturbed(&calls, 1, Some(2)).unwrap();
    assert_eq!((summary.repeated, summary.late), (0, 1));
    disturbed(&calls, 4, Some(9)).expect_err("the claim ended earlier");
    assert!(!is_linearizable(calls));
}

fn disturbed(calls: &[Call], begin: u64, end: Option<u64>) -> Result<Summary, Box<Violation>> {
    History { calls: calls.to_vec(), disturbances: vec![Disturbance { begin, end }] }.check()
}

#[test]
fn keys_are_independent() {
    let mut calls = vec![call(0, 1, Asked::Claim(A), Told::Claimed)];
    calls.push(Call { key: StoreKey::from_bytes([1; 16]), ..call(2, 3, READ, Told::Absent) });
    let summary = History { calls, disturbances: Vec::new() }.check().unwrap();
    assert_eq!((summary.keys, summary.answered), (2, 2));
}

#[test]
fn a_violation_says_which_call_cannot_be() {
    let calls = sequence([(Asked::Claim(A), Told::Claimed), (Asked::Claim(B), Told::Claimed)]);
    let violation = History { calls, disturbances: Vec::new() }.check().unwrap_err();
    assert_eq!(violation.call.asked, Asked::Claim(B));
    let text = violation.to_string();
    assert!(text.contains("is not linearizable") && text.contains("Running"), "{text}");
}

/// Many waiters at once, and a long history of unknown calls: neither takes exponential time.
#[test]
fn a_wide_and_a_long_history_are_checked() {
    let waiters =
        (0..100).map(|number| call(1 + number, 500 + number, Asked::Claim(asker(9)), running(A)));
    let mut calls = vec![call(0, 1000, Asked::Claim(A), Told::Claimed)];
    calls.extend(waiters);
    assert!(is_linearizable(calls));

    let unknown = (0..5000).map(|number| {
        let by = asker(u8::try_from(number % 20).unwrap());
        let asked =
            [Asked::Claim(by), complete(by), FREE][usize::try_from(number % 3).unwrap()].clone();
        call(4 * number, 4 * number + 1, asked, None)
    });
    let reads = (0..5000).map(|number| call(4 * number + 2, 4 * number + 3, READ, Told::Absent));
    assert!(is_linearizable(unknown.chain(reads).collect()));
}
