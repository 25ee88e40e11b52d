//! A boundary as a layer of tower: any body, any error, and the very service that was made ready.

use std::{
    convert::Infallible,
    future::{Ready, ready},
    io,
    pin::Pin,
    task::{Context, Poll},
};

use axum::{
    Router, body::Body, extract::Request, http, response::Response, routing::post as route,
};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use idempotent_axum::{Idempotency, MemoryStore, RunBoundary, RunBoundaryService, idempotent};
use idempotent_test_support::{Runs, fresh_key};
use tower::{BoxError, Layer as _, Service, ServiceBuilder, ServiceExt as _};

#[idempotent]
async fn pay(axum::extract::State(runs): axum::extract::State<Runs>) -> String {
    runs.next()
}

fn router() -> Router {
    let app = Router::new().route("/", route(pay)).layer(Idempotency::new(MemoryStore::new()));
    app.with_state(Runs::default())
}

/// Is called only if it was made ready, and cannot be cloned.
struct Once {
    inner: Router,
    is_ready: bool,
}

/// A request and a response body of other types than axum's, and another error.
impl Service<http::Request<Full<Bytes>>> for Once {
    type Response = http::Response<http_body_util::combinators::UnsyncBoxBody<Bytes, BoxError>>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, io::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), io::Error>> {
        self.is_ready = true;
        Service::<Request>::poll_ready(&mut self.inner, cx).map_err(|never| match never {})
    }

    fn call(&mut self, request: http::Request<Full<Bytes>>) -> Self::Future {
        assert!(std::mem::take(&mut self.is_ready), "the service that was made ready is called");
        if request.uri().path() == "/fails" {
            return Box::pin(ready(Err(io::Error::other("no response"))));
        }
        let response = self.inner.call(request.map(Body::new));
        Box::pin(async move {
            let Ok(response): Result<Response, Infallible> = response.await;
            Ok(response.map(|body| body.map_err(BoxError::from).boxed_unsync()))
        })
    }
}

fn request(path: &str, key: &str) -> http::Request<Full<Bytes>> {
    let request = http::Request::post(path).header("idempotency-key", key);
    request.body(Full::default()).expect("a valid request")
}

#[tokio::test]
async fn any_body_any_error_and_no_clone() {
    let inner = Once { inner: router(), is_ready: false };
    let mut service: RunBoundaryService<Once> = RunBoundary::new().layer(inner);
    let key = fresh_key();
    for is_replay in [false, true] {
        let response = service.ready().await.unwrap().call(request("/", &key)).await.unwrap();
        assert_eq!(response.headers().contains_key("idempotent-replayed"), is_replay);
        let body: Body = response.into_body();
        assert_eq!(body.collect().await.unwrap().to_bytes(), "run 1");
    }
    let error = service.ready().await.unwrap().call(request("/fails", &key)).await.unwrap_err();
    assert_eq!(error.to_string(), "no response");
}

#[tokio::test]
async fn a_boundary_stands_around_a_whole_router() {
    let service = ServiceBuilder::new().layer(RunBoundary::new()).service(router());
    let key = fresh_key();
    for is_replay in [false, true] {
        let request = request("/", &key).map(Body::new);
        let Ok(response): Result<Response, Infallible> = service.clone().oneshot(request).await;
        assert_eq!(response.headers().contains_key("idempotent-replayed"), is_replay);
    }
}

#[tokio::test]
async fn readiness_is_that_of_the_service_inside() {
    #[derive(Clone)]
    struct NeverReady;

    impl Service<Request> for NeverReady {
        type Response = Response;
        type Error = BoxError;
        type Future = Ready<Result<Response, BoxError>>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
            Poll::Ready(Err("never".into()))
        }

        fn call(&mut self, _: Request) -> Self::Future {
            unreachable!("it is never ready")
        }
    }

    let mut service = RunBoundary::new().layer(NeverReady);
    assert_eq!(service.ready().await.err().expect("never").to_string(), "never");
}

#[tokio::test]
async fn what_a_future_holds_is_not_shown() {
    let future = RunBoundary::new().layer(router()).call(request("/", &fresh_key()).map(Body::new));
    assert_eq!(format!("{future:?}"), "RunBoundaryFuture { .. }");
}
