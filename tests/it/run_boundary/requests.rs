//! Where a boundary can be placed, and which requests it takes for its own: recognized by method
//! and path, as nested routers see them.

use axum::{
    Router,
    extract::{Request, State},
    http::{Method, Uri},
    middleware::{Next, from_fn, from_fn_with_state},
    response::Response,
    routing::{any, get, post as route},
};
use idempotent_axum::{Idempotency, MemoryStore, RunBoundary, idempotent};
use idempotent_test_support::{Events, Runs, ask, fresh_key};
use tower::{Layer as _, ServiceBuilder};
use tower_http::normalize_path::NormalizePathLayer;
use tracing::Level;

use super::number;

#[idempotent]
async fn run(State(runs): State<Runs>) -> String {
    runs.next()
}

/// Whether the boundary settles requests for `path`: a replay then has the number that the layer
/// inside gave the first response.
async fn settles(app: &Router, method: Method, path: &str) -> bool {
    let key = fresh_key();
    let send = async || {
        let answer = ask(method.clone(), path).key(&key).send(app).await;
        assert_eq!(answer.status, 200, "{path}");
        (answer.header("x-layer").map(str::to_owned), answer.is_replay())
    };
    let ((first, is_replay), (second, is_second_replay)) = (send().await, send().await);
    assert!(first.is_some() && !is_replay && is_second_replay, "{path}");
    first == second
}

fn with_settings(app: Router<Runs>) -> Router {
    app.layer(Idempotency::new(MemoryStore::new())).with_state(Runs::default())
}

#[tokio::test]
async fn a_boundary_stands_wherever_a_layer_may() {
    let numbered = || from_fn_with_state(Runs::default(), number);
    let inner = || Router::new().route("/", any(run)).route("/pay/{id}", any(run));
    let on_router = Router::new()
        .merge(inner())
        .nest("/v1", inner())
        .nest("/v2/{tenant}", inner().nest("/deep", inner()))
        .fallback(run)
        .layer(numbered())
        .layer(RunBoundary::new());
    let app = with_settings(on_router);
    for path in [
        "/",
        "/pay/7",
        "/v1",
        "/v1/pay/7",
        "/v2/a",
        "/v2/a/pay/7",
        "/v2/a/deep",
        "/v2/a/deep/pay/7",
        "/x",
    ] {
        for method in [Method::POST, Method::PATCH, Method::GET] {
            assert!(settles(&app, method, path).await, "{path}");
        }
    }
    let by_route = Router::new()
        .route("/route-layer", route(run))
        .route_layer(numbered())
        .route_layer(RunBoundary::new())
        .route(
            "/method-router",
            route(run).layer(ServiceBuilder::new().layer(RunBoundary::new()).layer(numbered())),
        )
        .nest(
            "/nested",
            Router::new().route("/pay", route(run)).layer(numbered()).layer(RunBoundary::new()),
        )
        .nest_service(
            "/service",
            Router::new()
                .route("/pay", route(run))
                .layer(numbered())
                .layer(RunBoundary::new())
                .with_state(Runs::default()),
        );
    let app = with_settings(by_route);
    for path in ["/route-layer", "/method-router", "/nested/pay", "/service/pay"] {
        assert!(settles(&app, Method::POST, path).await, "{path}");
    }
}

#[tokio::test]
async fn settings_apply_outside_and_inside_of_a_boundary() {
    let numbered = || from_fn_with_state(Runs::default(), number);
    let routes = || Router::new().route("/", route(run)).layer(numbered());
    let settings = Idempotency::new(MemoryStore::new());
    let inside = routes().layer(settings.clone()).layer(RunBoundary::new());
    let outside = routes().layer(RunBoundary::new()).layer(settings);
    for app in [inside, outside] {
        assert!(settles(&app.with_state(Runs::default()), Method::POST, "/").await);
    }
}

#[tokio::test]
async fn of_nested_boundaries_the_outermost_counts() {
    let numbered = || from_fn_with_state(Runs::default(), number);
    let routes = Router::new()
        .route("/", route(run))
        .route("/inner", route(run))
        .layer(RunBoundary::new())
        .layer(numbered())
        .layer(RunBoundary::new());
    assert!(settles(&with_settings(routes), Method::POST, "/").await);
    let nested = Router::new().route("/pay", route(run)).layer(RunBoundary::new());
    let routes = Router::new().nest("/v1", nested).layer(numbered()).layer(RunBoundary::new());
    assert!(settles(&with_settings(routes), Method::POST, "/v1/pay").await);
    // The inner one alone does not know of the layer.
    let routes = Router::new().route("/", route(run)).layer(RunBoundary::new()).layer(numbered());
    assert!(!settles(&with_settings(routes), Method::POST, "/").await);
}

#[tokio::test]
async fn a_trailing_slash_that_a_layer_trims_makes_no_difference() {
    let numbered = || from_fn_with_state(Runs::default(), number);
    let routes = Router::new().route("/pay", route(run)).layer(numbered());
    let inside = NormalizePathLayer::trim_trailing_slash().layer(with_settings(routes));
    let app = Router::new().fallback_service(RunBoundary::new().layer(inside));
    for path in ["/pay", "/pay/"] {
        assert!(settles(&app, Method::POST, path).await, "{path}");
    }
}

/// Changes what a layer inside a boundary may change.
async fn rewrite(mut request: Request, next: Next) -> Response {
    match request.uri().path() {
        "/method" => *request.method_mut() = Method::PUT,
        "/path" => *request.uri_mut() = Uri::from_static("/elsewhere"),
        "/query" => *request.uri_mut() = Uri::from_static("/query?more"),
        _ => {}
    }
    next.run(request).await
}

#[tokio::test]
async fn a_run_that_is_narrower_than_its_boundary_is_warned_of_once() {
    let numbered = || from_fn_with_state(Runs::default(), number);
    let (events, _guard) = Events::of_thread();
    let routes = Router::new()
        .route("/method", any(run))
        .route("/path", any(run))
        .route("/query", any(run))
        .layer(from_fn(rewrite))
        .layer(numbered())
        .layer(RunBoundary::new());
    let app = with_settings(routes);
    assert!(settles(&app, Method::POST, "/query").await);
    let warnings = || {
        let warnings = events.all().into_iter().filter(|event| event.level == Level::WARN);
        warnings.map(|event| (event.message, event.fields)).collect::<Vec<_>>()
    };
    assert!(warnings().is_empty());
    for _ in 0..2 {
        assert!(!settles(&app, Method::POST, "/method").await);
        assert!(!settles(&app, Method::POST, "/path").await);
    }
    // Without a key there is no run.
    ask(Method::PATCH, "/path").send(&app).await;
    let [(method, by_method), (path, by_path)] = &warnings()[..] else { panic!("two operations") };
    assert!(method.contains("ends with the handler") && method == path);
    assert_eq!(by_method, &["operation=\"PUT /method\""]);
    assert_eq!(by_path, &["operation=\"POST /path\""]);
}

#[tokio::test]
async fn a_handler_without_the_attribute_passes_untouched() {
    let numbered = || from_fn_with_state(Runs::default(), number);
    let routes =
        Router::new().route("/", get(async || "plain")).layer(numbered()).layer(RunBoundary::new());
    let app = with_settings(routes);
    let key = fresh_key();
    for number in ["run 1", "run 2"] {
        let answer = ask(Method::GET, "/").key(&key).send(&app).await;
        assert_eq!((answer.text(), answer.header("x-layer")), ("plain", Some(number)));
    }
}

#[tokio::test]
async fn the_keys_of_two_paths_in_one_boundary_are_two() {
    let numbered = || from_fn_with_state(Runs::default(), number);
    let routes = Router::new()
        .route("/one", route(run))
        .route("/two", route(run))
        .layer(numbered())
        .layer(RunBoundary::new());
    let app = with_settings(routes);
    let key = fresh_key();
    let send = async |path: &str| {
        let answer = ask(Method::POST, path).key(&key).send(&app).await;
        answer.text().to_owned()
    };
    assert_eq!(send("/one").await, "run 1");
    assert_eq!(send("/two").await, "run 2");
    assert_eq!(send("/one").await, "run 1");
}
