//! Three instances, many clients, no fault but the clients' impatience.

use std::{sync::Arc, time::Duration};

use tokio::task::JoinSet;

use crate::fleet::{Answer, Backend, Invite, created, exchange, instance, on_each_store};

on_each_store! { every_key_runs_once_and_every_caller_gets_the_same_response }

const CLIENTS: usize = 50;
const DUPLICATES: usize = 6;

async fn every_key_runs_once_and_every_caller_gets_the_same_response(backend: Backend) {
    let url = backend.url();
    let mut instances = Vec::new();
    for _ in 0..3 {
        instances.push(instance(&url, "50ms").await);
    }
    let instances = Arc::new(instances);
    let mut clients = JoinSet::new();
    for client in 0..CLIENTS {
        let instances = Arc::clone(&instances);
        clients.spawn(async move {
            let invite = Invite::new();
            let mut duplicates = JoinSet::new();
            for duplicate in 0..DUPLICATES {
                let (instances, invite) = (Arc::clone(&instances), invite.clone());
                duplicates.spawn(async move {
                    let of = |offset| &instances[(client + duplicate + offset) % instances.len()];
                    if duplicate % 2 == 0 {
                        // Too short for a run: this caller goes away, and tries again elsewhere.
                        let hasty = invite.request(of(0)).timeout(Duration::from_millis(30));
                        if let Ok(answer) = exchange(hasty).await {
                            return answer;
                        }
                    }
                    invite.retried(&[of(1), of(2), of(3)]).await
                });
            }
            let answers = duplicates.join_all().await;
            let bodies = |answer: &Answer| (answer.status, answer.body.clone());
            assert!(answers.iter().all(|answer| bodies(answer) == bodies(&answers[0])));
            invite.email()
        });
    }
    let mut emails = clients.join_all().await;
    let all: Vec<_> = instances.iter().collect();
    let created = created(&all).await;
    assert!(created.values().all(|&runs| runs == 1), "{created:?}");
    let mut created: Vec<_> = created.into_keys().collect();
    emails.sort();
    created.sort();
    assert_eq!(created, emails);
}
