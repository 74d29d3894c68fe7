//! The API's description as a page: plain HTML, no script, works offline.

use std::fmt::Write as _;

use axum::response::Html;
use serde_json::Value;
use utoipa::openapi::OpenApi;

const STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}\
    summary{cursor:pointer;padding:.3rem 0}code{background:#8883;padding:.1rem .3rem;border-radius:.2rem}\
    .m{display:inline-block;width:4.5rem;font-weight:700}table{border-collapse:collapse;margin:.3rem 0 1rem}\
    td,th{border:1px solid #8886;padding:.2rem .5rem;text-align:left;vertical-align:top}\
    @media(prefers-color-scheme:dark){body{background:#111;color:#eee}a{color:#8cf}}";

/// The page of a description.
pub(crate) fn page(description: &OpenApi) -> Html<String> {
    let description = serde_json::to_value(description).unwrap_or_default();
    let mut out = format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
         <title>hookstream API</title><style>{STYLE}</style><h1>hookstream API</h1><p>{}</p>\
         <p><a href=\"openapi.json\">openapi.json</a></p><h2>Operations</h2>",
        text(&description["info"]["description"])
    );
    for (path, operations) in description["paths"].as_object().into_iter().flatten() {
        for (method, operation) in operations.as_object().into_iter().flatten() {
            operation_of(&mut out, &description, path, method, operation);
        }
    }
    out.push_str("<h2>Schemas</h2>");
    for (name, schema) in description["components"]["schemas"].as_object().into_iter().flatten() {
        push(
            &mut out,
            format_args!(
                "<details id=\"{}\"><summary><code>{}</code> {}</summary>",
                escaped(name),
                escaped(name),
                text(&schema["description"])
            ),
        );
        out.push_str("<table><tr><th>field<th>type<th>about");
        for (field, of) in schema["properties"].as_object().into_iter().flatten() {
            push(
                &mut out,
                format_args!(
                    "<tr><td><code>{}</code><td>{}<td>{}",
                    escaped(field),
                    kind(of),
                    text(&of["description"])
                ),
            );
        }
        out.push_str("</table></details>");
    }
    Html(out)
}

fn operation_of(out: &mut String, description: &Value, path: &str, method: &str, operation: &Value) {
    push(
        out,
        format_args!(
            "<details><summary><span class=\"m\">{}</span><code>{}</code> {}</summary>",
            escaped(&method.to_uppercase()),
            escaped(path),
            text(&operation["summary"])
        ),
    );
    let parameters = operation["parameters"].as_array().into_iter().flatten();
    let rows: String = parameters
        .map(|parameter| {
            format!(
                "<tr><td><code>{}</code><td>{}<td>{}",
                text(&parameter["name"]),
                text(&parameter["in"]),
                text(&parameter["description"])
            )
        })
        .collect();
    if !rows.is_empty() {
        push(out, format_args!("<table><tr><th>parameter<th>in<th>about{rows}</table>"));
    }
    if let Some(scope) = operation["security"][0].as_object().and_then(|scheme| scheme.values().next()) {
        push(out, format_args!("<p>Scope: <code>{}</code></p>", text(&scope[0])));
    }
    if let Some(content) = operation["requestBody"]["content"].as_object() {
        let body: Vec<_> =
            content.iter().map(|(name, of)| format!("{} {}", escaped(name), kind(&of["schema"]))).collect();
        push(
            out,
            format_args!(
                "<p>Body: {}. {}</p>",
                body.join(", "),
                text(&operation["requestBody"]["description"])
            ),
        );
    }
    out.push_str("<table><tr><th>status<th>means<th>body");
    for (status, response) in operation["responses"].as_object().into_iter().flatten() {
        let response = resolved(description, response);
        let body = response["content"].as_object().into_iter().flatten().map(|(_, of)| kind(&of["schema"]));
        push(
            out,
            format_args!(
                "<tr><td>{}<td>{}<td>{}",
                escaped(status),
                text(&response["description"]),
                body.collect::<Vec<_>>().join(", ")
            ),
        );
    }
    out.push_str("</table></details>");
}

fn push(out: &mut String, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("a string takes everything");
}

/// What a reference leads to; else the value itself.
fn resolved<'a>(description: &'a Value, value: &'a Value) -> &'a Value {
    let pointer = value["$ref"].as_str().and_then(|reference| reference.strip_prefix('#'));
    pointer.and_then(|pointer| description.pointer(pointer)).unwrap_or(value)
}

/// A schema's name as a link, or its type.
fn kind(schema: &Value) -> String {
    if let Some(name) = schema["$ref"].as_str().and_then(|text| text.rsplit('/').next()) {
        let name = escaped(name);
        return format!("<a href=\"#{name}\">{name}</a>");
    }
    match &schema["type"] {
        Value::String(text) if text == "array" => format!("list of {}", kind(&schema["items"])),
        Value::String(text) => escaped(text),
        Value::Array(types) => types.iter().map(text).collect::<Vec<_>>().join(" or "),
        _ => String::new(),
    }
}

fn text(value: &Value) -> String {
    escaped(value.as_str().unwrap_or_default())
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
