//! The stores that the conformance suite finds broken are also found by their histories, if the
//! fault is in what a key holds, not in its timing or in `wait`.

use std::{sync::Arc, time::Instant};

use idempotent_test_support::{PATIENCE, history::Load};
use tokio::task::block_in_place;

use crate::conformance::{Broken, Fault};

/// Lets instances call the store until their history is not linearizable.
async fn assert_found(fault: Fault) {
    let began = Instant::now();
    for seed in 1.. {
        let store = Arc::new(Broken::new(fault));
        let load = Load::start([(); 3].map(|()| Arc::clone(&store)), seed);
        load.answers(2000).await;
        if block_in_place(|| load.stop()).check().is_err() {
            break;
        }
        assert!(began.elapsed() < PATIENCE, "{fault:?} is not found in {seed} histories");
    }
}

macro_rules! found {
    ($($name:ident: $fault:ident;)*) => {
        $(#[tokio::test(flavor = "multi_thread")]
        async fn $name() {
            assert_found(Fault::$fault).await;
        })*
    };
}

found! {
    a_claim_that_checks_then_inserts_is_found: CheckThenInsert;
    a_run_with_another_fingerprint_is_found: RunningWithTheAskersFingerprint;
    a_release_without_token_is_found: ReleaseWithoutToken;
    a_complete_without_token_is_found: CompleteWithoutToken;
    a_renewal_of_anything_is_found: RenewAnything;
    a_read_that_claims_is_found: ReadClaims;
    a_forget_that_ignores_a_run_is_found: ForgetIgnoresThatItRuns;
    a_forget_that_spares_every_run_is_found: ForgetSparesEveryRun;
    a_forget_that_leaves_the_record_is_found: ForgetLeavesTheRecord;
    a_forget_that_looks_before_it_acts_is_found: ForgetFreesTwice;
}
