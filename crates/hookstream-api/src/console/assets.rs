//! Scripts, styles and pictures: part of the program, at addresses that change with them, so that browsers keep them.

use std::io::Write as _;
use std::sync::LazyLock;

use axum::extract::Path;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use http::header::{ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE, VARY};
use http::{HeaderMap, HeaderValue, StatusCode};
use sha2::{Digest as _, Sha256};

macro_rules! assets {
    ($($name:literal, $file:literal, $content_type:literal;)*) => {
        const FILES: &[(&str, &str, &[u8])] =
            &[$(($name, $content_type, include_bytes!(concat!("../../assets/", $file)))),*];
    };
}

assets! {
    "console.css", "console.css", "text/css; charset=utf-8";
    "console.js", "console.js", "text/javascript; charset=utf-8";
    "htmx.js", "vendor/htmx.min.js", "text/javascript; charset=utf-8";
    "sse.js", "vendor/sse.min.js", "text/javascript; charset=utf-8";
    "charts.js", "charts.js", "text/javascript; charset=utf-8";
    "uplot.js", "vendor/uplot.min.js", "text/javascript; charset=utf-8";
    "uplot.css", "vendor/uplot.css", "text/css; charset=utf-8";
    "icon.svg", "icon.svg", "image/svg+xml";
}

struct Asset {
    name: &'static str,
    content_type: &'static str,
    plain: Bytes,
    zipped: Bytes,
}

struct Assets {
    version: String,
    all: Vec<Asset>,
}

static ASSETS: LazyLock<Assets> = LazyLock::new(|| {
    let mut digest = Sha256::new();
    for (name, _, bytes) in FILES {
        digest.update(name);
        digest.update(bytes);
    }
    let version = digest.finalize().iter().take(6).map(|byte| format!("{byte:02x}")).collect();
    let asset = |(name, content_type, bytes): &(&'static str, &'static str, &'static [u8])| {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        // Into memory: if it should fail after all, it is sent as it is.
        let zipped = encoder.write_all(bytes).and_then(|()| encoder.finish()).unwrap_or_default();
        Asset { name, content_type, plain: Bytes::from_static(bytes), zipped: zipped.into() }
    };
    Assets { version, all: FILES.iter().map(asset).collect() }
});

/// The address of an asset.
pub(super) fn path(name: &str) -> String {
    format!("/console/assets/{}/{name}", ASSETS.version)
}

pub(super) async fn show(Path((version, name)): Path<(String, String)>, headers: HeaderMap) -> Response {
    let Some(asset) = ASSETS.all.iter().find(|asset| asset.name == name) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    // Of another version's address, as while replicas are updated, is said what there is, and not for long.
    let kept = if version == ASSETS.version { "public, max-age=31536000, immutable" } else { "no-store" };
    let zip = headers.get(ACCEPT_ENCODING).and_then(|value| value.to_str().ok());
    let zip = zip.is_some_and(|value| value.contains("gzip")) && !asset.zipped.is_empty();
    let body = if zip { &asset.zipped } else { &asset.plain };
    let mut response = body.clone().into_response();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(asset.content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static(kept));
    headers.insert(VARY, HeaderValue::from_static("accept-encoding"));
    if zip {
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    response
}
