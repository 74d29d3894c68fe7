//! What the API reports of its requests and of its writes.
//!
//! A request is counted by its route's template, never by its path: what is asked for by nobody's route is `other`,
//! so that no caller can make series.

use std::sync::Arc;
use std::time::Instant;

use axum::extract::{MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::Response;
use hookstream_config::writer::WriteError;
use http::{Method, StatusCode};

hookstream_runtime::metrics! { "hookstream_api"
    /// What the API reports.
    pub struct ApiMetrics {
        /// Requests answered, by route, method and status; status `none`: the client went away before.
        requests_total: IntCounterVec["route", "method", "status"],
        /// Time from a request's head to its answer's head, by route and method.
        request_seconds: HistogramVec["route", "method"],
        /// Requests that are not answered yet.
        requests_in_flight: IntGauge,
        /// Requests refused because their client made too many.
        rate_limited_total: IntCounter,
        /// Writes of the configuration, by outcome: `written`, `refused`, `unavailable`, or `unknown`.
        config_writes_total: IntCounterVec["outcome"],
        /// How long a write of the configuration took until this replica showed it, by outcome.
        config_write_seconds: HistogramVec["outcome"],
    }
}

/// What has no route, or a method that no route has.
const OTHER: &str = "other";
/// Outcomes of a write.
const WRITTEN: &str = "written";
const REFUSED: &str = "refused";
const UNAVAILABLE: &str = "unavailable";
const UNKNOWN: &str = "unknown";

impl ApiMetrics {
    /// Makes every series whose labels are known, so that each begins at 0.
    pub(crate) fn touch(&self) {
        let outcomes: &[&[&str]] = &[&[WRITTEN, REFUSED, UNAVAILABLE, UNKNOWN]];
        hookstream_runtime::touch(&self.config_writes_total, outcomes);
        hookstream_runtime::touch(&self.config_write_seconds, outcomes);
    }

    pub(crate) fn wrote<T>(&self, began: Instant, result: &Result<T, WriteError>) {
        let outcome = match result {
            Ok(_) => WRITTEN,
            Err(WriteError::Refused { .. }) => REFUSED,
            Err(WriteError::Unavailable { .. }) => UNAVAILABLE,
            Err(WriteError::OutcomeUnknown { .. }) => UNKNOWN,
        };
        self.config_writes_total.with_label_values(&[outcome]).inc();
        self.config_write_seconds.with_label_values(&[outcome]).observe(began.elapsed().as_secs_f64());
    }
}

/// Counts a request; goes around all routes.
pub(crate) async fn counted(
    State(metrics): State<Arc<ApiMetrics>>,
    request: Request,
    next: Next,
) -> Response {
    let route = request.extensions().get::<MatchedPath>().cloned();
    let counting = Counting::begin(&metrics, route, request.method());
    let response = next.run(request).await;
    counting.end(response.status());
    response
}

/// A request that is under way. One that is dropped was given up by its client.
struct Counting<'a> {
    metrics: &'a ApiMetrics,
    route: Option<MatchedPath>,
    method: &'static str,
    began: Instant,
    status: Option<StatusCode>,
}

impl<'a> Counting<'a> {
    fn begin(metrics: &'a ApiMetrics, route: Option<MatchedPath>, method: &Method) -> Self {
        metrics.requests_in_flight.inc();
        Self { metrics, route, method: label(method), began: Instant::now(), status: None }
    }

    fn end(mut self, status: StatusCode) {
        self.status = Some(status);
    }
}

impl Drop for Counting<'_> {
    fn drop(&mut self) {
        self.metrics.requests_in_flight.dec();
        let route = self.route.as_ref().map_or(OTHER, MatchedPath::as_str);
        let status = self.status.as_ref().map_or("none", StatusCode::as_str);
        self.metrics.requests_total.with_label_values(&[route, self.method, status]).inc();
        let seconds = self.began.elapsed().as_secs_f64();
        self.metrics.request_seconds.with_label_values(&[route, self.method]).observe(seconds);
    }
}

/// The methods that routes have; a client may invent others.
fn label(method: &Method) -> &'static str {
    match method.as_str() {
        "GET" => "GET",
        "HEAD" => "HEAD",
        "POST" => "POST",
        "PUT" => "PUT",
        "PATCH" => "PATCH",
        "DELETE" => "DELETE",
        "OPTIONS" => "OPTIONS",
        _ => OTHER,
    }
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use axum::routing::get;
    use axum::{Router, middleware};
    use hookstream_runtime::prometheus::Registry;
    use tokio::sync::Notify;
    use tower_service::Service as _;

    use super::*;

    fn metrics() -> Arc<ApiMetrics> {
        let metrics = ApiMetrics::register(&Registry::new()).unwrap();
        metrics.touch();
        Arc::new(metrics)
    }

    fn router(metrics: &Arc<ApiMetrics>) -> Router {
        let failing = || async { StatusCode::SERVICE_UNAVAILABLE };
        Router::new()
            .route("/things/{id}", get(|| async { "here" }).put(failing))
            .fallback(|| async { StatusCode::NOT_FOUND })
            .layer(middleware::from_fn_with_state(Arc::clone(metrics), counted))
    }

    async fn call(router: &mut Router, method: &str, path: &str) {
        let request = Request::builder().method(method).uri(path).body(Body::empty()).unwrap();
        drop(router.call(request).await);
    }

    fn count(metrics: &ApiMetrics, labels: [&str; 3]) -> u64 {
        metrics.requests_total.with_label_values(&labels).get()
    }

    #[tokio::test]
    async fn requests_are_counted_by_their_routes_template() {
        let metrics = metrics();
        let mut router = router(&metrics);
        for (method, path) in [
            ("GET", "/things/1"),
            ("GET", "/things/2?q=3"),
            ("PUT", "/things/1"),
            ("DELETE", "/things/1"),
            ("GET", "/things"),
            ("GET", "/things/1/none"),
            ("BREW", "/things/1"),
        ] {
            call(&mut router, method, path).await;
        }
        let route = "/things/{id}";
        for (labels, expected) in [
            ([route, "GET", "200"], 2),
            ([route, "PUT", "503"], 1),
            ([route, "DELETE", "405"], 1),
            ([OTHER, "GET", "404"], 2),
            ([route, OTHER, "405"], 1),
        ] {
            assert_eq!(count(&metrics, labels), expected, "{labels:?}");
        }
        assert_eq!(metrics.request_seconds.with_label_values(&[route, "GET"]).get_sample_count(), 2);
        assert_eq!(metrics.requests_in_flight.get(), 0);
    }

    #[tokio::test]
    async fn a_client_that_goes_away_is_counted() {
        let metrics = metrics();
        let (begun, never) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let wait = {
            let begun = Arc::clone(&begun);
            move || async move {
                begun.notify_one();
                never.notified().await;
            }
        };
        let mut router = Router::new()
            .route("/slow", get(wait))
            .layer(middleware::from_fn_with_state(Arc::clone(&metrics), counted));
        let request = tokio::spawn(async move { call(&mut router, "GET", "/slow").await });
        begun.notified().await;
        assert_eq!(metrics.requests_in_flight.get(), 1);
        request.abort();
        assert!(request.await.unwrap_err().is_cancelled());
        assert_eq!(metrics.requests_in_flight.get(), 0);
        assert_eq!(count(&metrics, ["/slow", "GET", "none"]), 1);
    }

    #[test]
    fn writes_are_counted_by_their_outcome() {
        let metrics = metrics();
        let reason = || "as told".to_owned();
        let results = [
            Ok(()),
            Err(WriteError::Unavailable { reason: reason() }),
            Err(WriteError::OutcomeUnknown { reason: reason() }),
        ];
        for result in results {
            metrics.wrote(Instant::now(), &result);
        }
        for (outcome, expected) in [(WRITTEN, 1), (REFUSED, 0), (UNAVAILABLE, 1), (UNKNOWN, 1)] {
            assert_eq!(
                metrics.config_writes_total.with_label_values(&[outcome]).get(),
                expected,
                "{outcome}"
            );
        }
    }

    #[test]
    fn all_are_documented() {
        let documentation = include_str!("../../../docs/api.md");
        for metric in ApiMetrics::CATALOG {
            assert!(
                documentation.contains(&format!("| `{}` | {} |", metric.name, metric.kind)),
                "{}",
                metric.name
            );
        }
    }
}
