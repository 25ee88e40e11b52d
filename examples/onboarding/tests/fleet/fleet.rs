//! Instances that share a store, and requests that are retried across all of them.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use reqwest::RequestBuilder;
use serde_json::json as body;
use test_servers::{Postgres, Proxy, Redis};
use tokio::task::JoinSet;

use crate::service::{ENTITIES, INVITE, Service, fresh_key, header, is_replay};

/// How long anything without its own limit may take.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);
/// The service's limit for a store call. It sets none, so this is the library's.
pub(crate) const STORE_TIMEOUT: Duration = Duration::from_secs(2);
/// What a busy machine may add to a limit.
pub(crate) const SLACK: Duration = Duration::from_secs(8);

/// A store's server. What it acknowledged survives its death.
pub(crate) enum Backend {
    Redis(Redis),
    Postgres(Postgres),
}

impl Backend {
    pub(crate) fn redis() -> Self {
        Self::Redis(Redis::start_with(&["--appendonly", "yes", "--appendfsync", "always"]))
    }

    pub(crate) fn postgres() -> Self {
        Self::Postgres(Postgres::start_with(&["fsync=on"]))
    }

    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Redis(_) => "Redis",
            Self::Postgres(_) => "PostgreSQL",
        }
    }

    pub(crate) fn url(&self) -> String {
        match self {
            Self::Redis(redis) => redis.url(),
            Self::Postgres(postgres) => postgres.url(),
        }
    }

    pub(crate) fn proxy(&self) -> Proxy {
        Proxy::start(match self {
            Self::Redis(redis) => redis.address(),
            Self::Postgres(postgres) => postgres.address(),
        })
    }

    pub(crate) fn url_through(&self, proxy: &Proxy) -> String {
        match self {
            Self::Redis(redis) => redis.url_through(proxy),
            Self::Postgres(postgres) => postgres.url_through(proxy),
        }
    }

    /// How many keys it holds, claimed or stored.
    pub(crate) fn keys(&self) -> usize {
        match self {
            Self::Redis(redis) => redis.cli(&["KEYS", "*"]).split_whitespace().count(),
            Self::Postgres(postgres) => postgres
                .execute("SELECT count(*) FROM idempotency_keys WHERE expires > clock_timestamp()")
                .parse()
                .expect("it is a number"),
        }
    }

    pub(crate) fn kill(&self) {
        match self {
            Self::Redis(redis) => redis.kill(),
            Self::Postgres(postgres) => postgres.kill(),
        }
    }

    pub(crate) fn restart(&self) {
        match self {
            Self::Redis(redis) => redis.restart(),
            Self::Postgres(postgres) => postgres.restart(),
        }
    }

    pub(crate) fn pause(&self) {
        match self {
            Self::Redis(redis) => redis.pause(),
            Self::Postgres(postgres) => postgres.pause(),
        }
    }

    pub(crate) fn resume(&self) {
        match self {
            Self::Redis(redis) => redis.resume(),
            Self::Postgres(postgres) => postgres.resume(),
        }
    }
}

/// Makes each of these functions of a [`Backend`] a test on Redis and one on PostgreSQL. A bug in
/// the library may make one wait forever.
macro_rules! on_each_store {
    ($($test:ident)*) => {
        mod redis {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                crate::fleet::in_time(super::$test(crate::fleet::Backend::redis())).await;
            })*
        }

        mod postgres {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                crate::fleet::in_time(super::$test(crate::fleet::Backend::postgres())).await;
            })*
        }
    };
}
pub(crate) use on_each_store;

/// Fails a test that does not end.
pub(crate) async fn in_time(test: impl Future<Output = ()>) {
    let limit = 5 * PATIENCE;
    assert!(tokio::time::timeout(limit, test).await.is_ok(), "it has not ended after {limit:?}");
}

/// An instance of the service, which takes `latency` for every run.
pub(crate) async fn instance(url: &str, latency: &str) -> Service {
    Service::start(&[("ONBOARDING_STORE", url), ("ONBOARDING_LATENCY", latency)]).await
}

/// An instance whose claims hold for `lease`.
pub(crate) async fn instance_with_lease(url: &str, latency: &str, lease: &str) -> Service {
    Service::start(&[
        ("ONBOARDING_STORE", url),
        ("ONBOARDING_LATENCY", latency),
        ("ONBOARDING_LEASE", lease),
    ])
    .await
}

/// A request that can be sent any number of times, with a unique key and a unique body.
#[derive(Clone)]
pub(crate) struct Invite {
    pub(crate) key: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: String,
    pub(crate) replayed: bool,
    /// Seconds.
    pub(crate) retry_after: Option<u64>,
}

impl Invite {
    pub(crate) fn new() -> Self {
        Self { key: fresh_key() }
    }

    pub(crate) fn email(&self) -> String {
        format!("{}@example.com", self.key)
    }

    pub(crate) fn request(&self, service: &Service) -> RequestBuilder {
        let input = body!({"email": self.email(), "entityName": "Ada Ltd"});
        service.post(INVITE).header("idempotency-key", &self.key).json(&input)
    }

    /// Sends it to a service that may be gone.
    pub(crate) async fn try_to(&self, service: &Service) -> Result<Answer, reqwest::Error> {
        exchange(self.request(service)).await
    }

    /// Sends it to a service that answers.
    pub(crate) async fn to(&self, service: &Service) -> Answer {
        self.try_to(service).await.expect("the service answers")
    }

    /// Sends it until it is done, to one service after the other.
    pub(crate) async fn retried(&self, services: &[&Service]) -> Answer {
        let since = Instant::now();
        for service in services.iter().cycle() {
            let answer = self.try_to(service).await;
            match answer {
                Ok(answer) if answer.status == 201 => return answer,
                Ok(answer) => {
                    assert!([409, 503].contains(&answer.status), "{answer:?}");
                    assert!(answer.status != 503 || answer.retry_after >= Some(1), "{answer:?}");
                }
                Err(_) => {}
            }
            assert!(since.elapsed() < PATIENCE, "the service does not recover");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        unreachable!("there is a service")
    }
}

/// Sends a request and reads the whole answer.
pub(crate) async fn exchange(request: RequestBuilder) -> Result<Answer, reqwest::Error> {
    let response = request.send().await?;
    let retry_after = header(&response, "retry-after").parse().ok();
    let (status, replayed) = (response.status().as_u16(), is_replay(&response));
    Ok(Answer { status, replayed, retry_after, body: response.text().await? })
}

/// Clients that send one request after the other, each until it is done, and repeat a finished one
/// in between.
pub(crate) struct Load {
    instances: Arc<[Service; 2]>,
    is_over: Arc<AtomicBool>,
    clients: JoinSet<Vec<(Invite, Answer)>>,
}

impl Load {
    const CLIENTS: usize = 8;

    pub(crate) fn start(instances: [Service; 2]) -> Self {
        let (instances, is_over) = (Arc::new(instances), Arc::new(AtomicBool::new(false)));
        let mut clients = JoinSet::new();
        for client in 0..Self::CLIENTS {
            let (instances, is_over) = (Arc::clone(&instances), Arc::clone(&is_over));
            clients.spawn(async move {
                let (here, there) = (&instances[client % 2], &instances[(client + 1) % 2]);
                let mut done: Vec<(Invite, Answer)> = Vec::new();
                while !is_over.load(Ordering::Relaxed) {
                    let invite = Invite::new();
                    let answer = invite.retried(&[here, there]).await;
                    done.push((invite, answer));
                    let (invite, answer) = &done[done.len() / 2];
                    let again = invite.to(there).await;
                    let refused = [409, 503].contains(&again.status);
                    assert!(refused || (again.replayed && again.body == answer.body), "{again:?}");
                }
                done
            });
        }
        Self { instances, is_over, clients }
    }

    pub(crate) fn instances(&self) -> [&Service; 2] {
        self.instances.each_ref()
    }

    /// Asserts that every request is stored, and that none ran twice.
    pub(crate) async fn assert_once(self) {
        self.is_over.store(true, Ordering::Relaxed);
        let done: Vec<_> = self.clients.join_all().await.into_iter().flatten().collect();
        assert!(done.len() > Self::CLIENTS, "there was no load");
        let created = created(&self.instances.each_ref()).await;
        for (index, (invite, answer)) in done.iter().enumerate() {
            let replay = invite.retried(&[&self.instances[index % 2]]).await;
            assert!(replay.replayed, "what was stored is stored");
            assert_eq!(replay.body, answer.body);
            assert_eq!(created.get(&invite.email()), Some(&1));
        }
    }
}

/// How many entities each email has, over all instances.
pub(crate) async fn created(services: &[&Service]) -> HashMap<String, usize> {
    let mut created = HashMap::new();
    for service in services {
        for entity in service.list(ENTITIES).await {
            let email = entity["email"].as_str().expect("an entity has an email").to_owned();
            *created.entry(email).or_default() += 1;
        }
    }
    created
}

/// How many entities `invite` has created.
pub(crate) async fn runs(invite: &Invite, services: &[&Service]) -> usize {
    created(services).await.get(&invite.email()).copied().unwrap_or_default()
}

/// Asserts that the store was out of reach, and that the caller knows when to come again.
pub(crate) fn assert_unavailable(answer: &Answer, elapsed: Duration, fault: &str) {
    assert_eq!(answer.status, 503, "{fault}: {answer:?}");
    assert!(answer.body.contains("store_unavailable"), "{fault}: {answer:?}");
    assert!(answer.retry_after >= Some(1), "{fault}: {answer:?}");
    assert!(elapsed < STORE_TIMEOUT + SLACK, "{fault}: after {elapsed:?}");
}
