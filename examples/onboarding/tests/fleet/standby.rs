//! A real hot standby of PostgreSQL: refused as it is, and good once it is promoted.

use test_servers::Postgres;
use tokio::task::block_in_place;

use crate::{
    fleet::{Invite, instance, runs},
    service::{program, refusal},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_promoted_standby_has_what_a_primary_that_waits_for_it_acknowledged() {
    let primary = Postgres::start();
    let standby = block_in_place(|| primary.standby());
    primary.execute("ALTER SYSTEM SET synchronous_standby_names = '*'");
    primary.execute("SELECT pg_reload_conf()");
    let before = instance(&primary.url(), "0s").await;

    let line = refusal(program(&[("ONBOARDING_STORE", &standby.url())])).await;
    assert!(line.starts_with("onboarding: ONBOARDING_STORE: cannot use PostgreSQL"), "{line}");
    assert!(line.contains("read-only") && line.contains("needs the primary"), "{line}");

    let mut stored = Vec::new();
    for _ in 0..20 {
        let invite = Invite::new();
        stored.push((invite.to(&before).await, invite));
    }
    block_in_place(|| primary.kill());
    assert_eq!(standby.execute("SELECT pg_promote()"), "t");
    let after = instance(&standby.url(), "0s").await;
    for (first, invite) in &stored {
        let replay = invite.to(&after).await;
        assert!(replay.replayed);
        assert_eq!(replay.body, first.body);
        assert_eq!(runs(invite, &[&before, &after]).await, 1);
    }
}
