//! The metrics, as Prometheus would scrape them.

use idempotent_axum::MemoryStore;
use idempotent_test_support::{Fault, Leased, Probe, fresh_key, post};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusRecorder};

use super::{By, service};

fn recorder() -> PrometheusRecorder {
    PrometheusBuilder::new().build_recorder()
}

/// The value of this series; `None` if there is none.
fn value(scraped: &str, series: &str) -> Option<f64> {
    let line = scraped.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '))?;
    line.parse().ok()
}

#[tokio::test]
async fn requests_are_counted_by_operation_and_outcome() {
    let recorder = recorder();
    // Everything runs on this thread, and so does the recorder.
    let _guard = metrics::set_default_local_recorder(&recorder);
    for by in [By::Attribute, By::Boundary] {
        let mut service = service(by, MemoryStore::new());
        for key in [fresh_key(), fresh_key()] {
            service.key = key;
            for body in ["201", "201", "other"] {
                service.ask("/answer/7", body).send(&service.router).await;
            }
        }
        post("/answer/7").body("200").send(&service.router).await;
    }
    let scraped = recorder.handle().render();
    for (outcome, count) in
        [("stored", 4.0), ("replayed", 4.0), ("key_reused", 4.0), ("without_key", 2.0)]
    {
        let series = format!(
            "idempotency_requests_total{{operation=\"POST /answer/{{id}}\",outcome=\"{outcome}\"}}"
        );
        assert_eq!(value(&scraped, &series), Some(count), "{series} in {scraped}");
    }
    assert_eq!(value(&scraped, "idempotency_run_seconds_count"), Some(4.0));
    assert!(value(&scraped, "idempotency_memory_bytes").is_some_and(|bytes| bytes > 0.0));
    assert!(value(&scraped, "idempotency_evicted_total").is_some());
    assert!(!scraped.contains("/answer/7") && !scraped.contains("store_seconds"), "{scraped}");
}

#[tokio::test(start_paused = true)]
async fn a_shared_store_is_timed_and_what_goes_wrong_is_counted() {
    let recorder = recorder();
    let _guard = metrics::set_default_local_recorder(&recorder);
    let probe = Probe::on(Leased::default());
    let service = service(By::Attribute, probe.clone());
    let scraped = recorder.handle().render();
    for series in ["idempotency_claims_lost_total", "idempotency_given_up_total"] {
        assert_eq!(value(&scraped, series), Some(0.0), "{series} is there from the start");
    }

    let held = service.ask("/held", "").spawn(&service.router);
    service.app.gate.arrived.reaches(1).await;
    let duplicate = service.ask("/held", "").spawn(&service.router);
    probe.wait.begun.reaches(1).await;
    let scraped = recorder.handle().render();
    assert_eq!(value(&scraped, "idempotency_runs_in_flight"), Some(1.0));
    assert_eq!(value(&scraped, "idempotency_waiting"), Some(1.0));
    probe.store.lapse();
    service.app.gate.open(2);
    held.await.unwrap();
    duplicate.await.unwrap();

    probe.complete.always(Fault::Fails);
    post("/answer/7").key(fresh_key()).body("201").send(&service.router).await;
    let scraped = recorder.handle().render();
    assert_eq!(value(&scraped, "idempotency_background_tasks"), Some(1.0));
    service.idempotency.drain().await;

    let scraped = recorder.handle().render();
    assert_eq!(value(&scraped, "idempotency_given_up_total"), Some(1.0));
    assert_eq!(value(&scraped, "idempotency_claims_lost_total"), Some(1.0));
    assert_eq!(value(&scraped, "idempotency_wait_seconds_count"), Some(1.0));
    for gauge in ["runs_in_flight", "waiting", "background_tasks"] {
        assert_eq!(value(&scraped, &format!("idempotency_{gauge}")), Some(0.0), "{gauge}");
    }
    for (verb, result) in [("claim", "ok"), ("complete", "ok"), ("complete", "error")] {
        let series =
            format!("idempotency_store_seconds_count{{verb=\"{verb}\",result=\"{result}\"}}");
        assert!(value(&scraped, &series).is_some_and(|count| count >= 1.0), "{series}: {scraped}");
    }
}

#[tokio::test]
async fn every_metric_is_described() {
    let recorder = recorder();
    let _guard = metrics::set_default_local_recorder(&recorder);
    let service = service(By::Attribute, MemoryStore::new());
    service.tells("/answer/7", "201").await;
    let scraped = recorder.handle().render();
    let names = scraped.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    let mut count = 0;
    for line in names {
        let name = line.split(['{', ' ']).next().expect("a name");
        let name = name.trim_end_matches("_count").trim_end_matches("_sum");
        assert!(scraped.contains(&format!("# HELP {name} ")), "{name} is described: {scraped}");
        count += 1;
    }
    assert!(count > 5);
}
