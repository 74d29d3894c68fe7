//! Forms: a document's fields as inputs, and what was typed as a document again.
//!
//! A form knows nothing of what is right: it makes the document that the API would get, and shows what is said of it at
//! the field that it is said of. What was typed is shown again as it was.

use axum::body::Body;
use serde_json::{Map, Value, json};

use super::texts::Texts;
use crate::problem::{FieldError, Kind, Problem};

/// Bytes of a form: a document has as many at most.
const MAX_BYTES: usize = 1024 * 1024;

/// What was sent with a form.
#[derive(Debug, Default)]
pub(super) struct Form(Vec<(String, String)>);

/// A label, in whichever language.
pub(super) type Label = fn(&Texts) -> &'static str;

/// A field of a document, as people see it.
#[derive(Clone, Copy)]
pub(super) struct Field {
    /// Where it is in the document, with dots between.
    pub(super) at: &'static str,
    pub(super) label: Label,
    pub(super) hint: Option<Label>,
    pub(super) input: Input,
    pub(super) part: Part,
    pub(super) is_required: bool,
    /// It counts for this choice of [`Input::Which`] only.
    pub(super) when: Option<&'static str>,
    /// It is fixed when the thing is made.
    pub(super) is_fixed: bool,
}

/// A part of a form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Main,
    Content,
    Trust,
    /// Folded away.
    Advanced,
}

/// How a field is typed in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Input {
    Line,
    /// With proposals, and anything else.
    Proposed(&'static [&'static str]),
    Area,
    /// Several, one in a line.
    Lines,
    Numbers,
    Number,
    /// A number, or a text that says one with its unit.
    Rate,
    Check,
    Json,
    /// JSON, or a plain name.
    NameOrJson,
    Choice(&'static [&'static str]),
    /// One of what is configured.
    Of(Of),
    Secret,
    /// Names with secret values.
    Rows,
    /// Registered ones to tick, others to write.
    EventTypes,
    Payload,
    Signatures,
    /// No field itself: which of the others there are.
    Which(&'static [&'static str]),
}

/// Of what one is chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Of {
    Accounts,
    Apps,
    Sources,
    Authorizations,
}

/// A field with what stands in it.
#[derive(Debug, Default)]
pub(super) struct FieldView {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) label: &'static str,
    pub(super) hint: String,
    /// Which widget.
    pub(super) widget: &'static str,
    pub(super) value: String,
    pub(super) is_checked: bool,
    pub(super) options: Vec<Choice>,
    pub(super) groups: Vec<Group>,
    pub(super) rows: Vec<Row>,
    pub(super) error: Option<String>,
    pub(super) is_required: bool,
    pub(super) is_fixed: bool,
    pub(super) when: &'static str,
    /// A second value: of a template, of a header's name.
    pub(super) more: String,
}

#[derive(Clone, Debug)]
pub(super) struct Choice {
    pub(super) value: String,
    pub(super) label: String,
    pub(super) is_chosen: bool,
}

/// Choices that belong together.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) name: String,
    pub(super) choices: Vec<Choice>,
}

/// A header.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) name: String,
    pub(super) value: String,
    pub(super) is_kept: bool,
}

/// What the signatures are called that need nothing else.
const SIGNATURES: &[&str] = &["standard", "standard_ed25519", "stripe", "github", "shopify"];
const PAYLOADS: &[&str] = &["event", "cloudevents_structured", "cloudevents_binary", "profile", "template"];
/// A secret that is there stays.
const KEPT: &str = "sensitiveValuePresent";

impl Form {
    /// # Errors
    /// If it is too large, or broke off.
    pub(super) async fn read(body: Body) -> Result<Self, Problem> {
        let bytes = axum::body::to_bytes(body, MAX_BYTES).await.map_err(|_| {
            Problem::new(Kind::TooLarge, format!("the form has more than {MAX_BYTES} bytes, or broke off"))
        })?;
        Ok(Self(url::form_urlencoded::parse(&bytes).into_owned().collect()))
    }

    #[cfg(test)]
    pub(super) fn of(pairs: &[(&str, &str)]) -> Self {
        Self(pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect())
    }

    pub(super) fn get(&self, name: &str) -> &str {
        self.all(name).next().unwrap_or_default()
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.all(name).next().is_some()
    }

    /// All that is chosen from a list, and what is typed beside it, once.
    pub(super) fn chosen(&self, name: &str) -> Vec<&str> {
        let more = format!("{name}.more");
        let mut chosen: Vec<&str> = self.all(name).collect();
        for name in items(self.get(&more)) {
            if !chosen.contains(&name) {
                chosen.push(name);
            }
        }
        chosen
    }

    fn all<'a, 'b>(&'a self, name: &'b str) -> impl Iterator<Item = &'a str> + use<'a, 'b> {
        self.0.iter().filter(move |(found, _)| found == name).map(|(_, value)| value.as_str())
    }
}

impl Field {
    /// What was typed, as the document has it; none: it has no such field. `old`: the document as it is.
    ///
    /// # Errors
    /// What can't stand in a document.
    fn read(&self, form: &Form, old: &Value) -> Result<Option<Value>, String> {
        let text = form.get(self.at);
        let line = text.trim();
        let some = |text: &str| (!text.is_empty()).then(|| json!(text));
        Ok(match self.input {
            Input::Line | Input::Proposed(_) | Input::Choice(_) | Input::Of(_) => some(line),
            // Browsers send each line's end as two characters.
            Input::Area => some(&text.replace("\r\n", "\n")),
            Input::Lines => {
                let items = items(text);
                (!items.is_empty()).then(|| json!(items))
            }
            Input::Numbers => {
                let numbers = items(text).into_iter().map(number).collect::<Result<Vec<_>, _>>()?;
                (!numbers.is_empty()).then(|| json!(numbers))
            }
            Input::Number if line.is_empty() => None,
            Input::Number => Some(number(line)?),
            Input::Rate => some(line).map(|text| number(line).unwrap_or(text)),
            Input::Check => Some(json!(form.has(self.at))),
            Input::Json if line.is_empty() => None,
            Input::Json => Some(parsed(text)?),
            Input::NameOrJson if line.starts_with(['{', '[', '"']) => Some(parsed(text)?),
            Input::NameOrJson => some(line),
            Input::Secret if line.is_empty() => old.pointer(&pointer(self.at)).cloned(),
            Input::Secret => Some(json!(text.replace("\r\n", "\n"))),
            Input::Rows => {
                let mut map = Map::new();
                let values = format!("{}.value", self.at);
                for (name, value) in form.all(self.at).zip(form.all(&values)) {
                    let name = name.trim();
                    let kept = old.pointer(&pointer(self.at)).and_then(|old| old.get(name));
                    match (name.is_empty(), kept.filter(|_| value.is_empty())) {
                        (true, _) if value.is_empty() => {}
                        (true, _) => return Err("a value stands without a name: give it one".to_owned()),
                        (false, Some(kept)) => drop(map.insert(name.to_owned(), kept.clone())),
                        (false, None) => drop(map.insert(name.to_owned(), json!(value))),
                    }
                }
                (!map.is_empty()).then_some(Value::Object(map))
            }
            Input::EventTypes => Some(json!(form.chosen(self.at))),
            Input::Payload => match line {
                "template" => {
                    let template = form.get("payload.template").replace("\r\n", "\n");
                    Some(json!({ "template": template }))
                }
                other => some(other),
            },
            Input::Signatures => {
                let mut all: Vec<Value> = form.all(self.at).map(|name| json!(name)).collect();
                let header = form.get("signature.hex").trim();
                if !header.is_empty() {
                    all.push(json!({ "hmacSha256Hex": header }));
                }
                // What this form has no box for stays.
                let others = listed(old.get("signature"));
                all.extend(others.into_iter().filter(|found| found.get("httpMessage").is_some()));
                Some(if all.is_empty() { json!("none") } else { json!(all) })
            }
            Input::Which(_) => None,
        })
    }

    /// What stands in it: in the form as it was sent, else in the document.
    fn view(&self, t: &Texts, document: &Value, form: Option<&Form>, registered: &[String]) -> FieldView {
        let found = document.pointer(&pointer(self.at));
        let text = |value: Option<&Value>| match value {
            Some(Value::String(text)) => text.clone(),
            Some(Value::Array(items)) => {
                let texts =
                    items.iter().map(|item| item.as_str().map_or_else(|| item.to_string(), str::to_owned));
                texts.collect::<Vec<_>>().join("\n")
            }
            None | Some(Value::Null | Value::Object(_)) => String::new(),
            Some(other) => other.to_string(),
        };
        let value = form.map_or_else(|| text(found), |form| form.get(self.at).to_owned());
        let is_kept = |value: Option<&Value>| value.is_some_and(|value| value.get(KEPT).is_some());
        let mut view = FieldView {
            id: self.at.replace('.', "-"),
            name: self.at.to_owned(),
            label: (self.label)(t),
            hint: self.hint.map(|hint| hint(t).to_owned()).unwrap_or_default(),
            is_required: self.is_required,
            when: self.when.unwrap_or_default(),
            widget: "line",
            value,
            ..FieldView::default()
        };
        let chosen = view.value.clone();
        let choice = |value: &str, label: &str| Choice {
            value: value.to_owned(),
            label: label.to_owned(),
            is_chosen: value == chosen,
        };
        match self.input {
            Input::Line | Input::Rate => {}
            Input::Number => view.widget = "number",
            Input::Proposed(all) => {
                view.widget = "proposed";
                view.options = all.iter().map(|value| choice(value, value)).collect();
            }
            Input::Area | Input::Lines | Input::Numbers => view.widget = "area",
            Input::Check => {
                view.widget = "check";
                let is_set = found.and_then(Value::as_bool).unwrap_or(false);
                view.is_checked = form.map_or(is_set, |form| form.has(self.at));
            }
            Input::Json | Input::NameOrJson => {
                view.widget = "code";
                if form.is_none()
                    && let Some(found) = found
                {
                    view.value = found.as_str().map_or_else(|| pretty(found), str::to_owned);
                }
            }
            Input::Choice(all) => {
                view.widget = "choice";
                view.options = all.iter().map(|value| choice(value, value)).collect();
            }
            Input::Which(all) => {
                view.widget = "which";
                let which = all.iter().find(|name| document.get(**name).is_some());
                let which = form.map_or_else(|| which.copied().unwrap_or(all[0]), |form| form.get(self.at));
                view.options = all
                    .iter()
                    .map(|value| Choice { is_chosen: *value == which, ..choice(value, value) })
                    .collect();
            }
            // Its options are filled in by who knows them.
            Input::Of(_) => view.widget = "choice",
            Input::Secret => {
                view.widget = "secret";
                if form.is_none() {
                    view.value = found.and_then(Value::as_str).unwrap_or_default().to_owned();
                }
                if is_kept(found) {
                    t.secret_kept.clone_into(&mut view.hint);
                }
            }
            Input::Rows => {
                view.widget = "rows";
                let old = found.and_then(Value::as_object);
                let kept = |name: &str| is_kept(old.and_then(|old| old.get(name)));
                let values = format!("{}.value", self.at);
                view.rows = match form {
                    Some(form) => form
                        .all(self.at)
                        .zip(form.all(&values))
                        .filter(|(name, value)| !name.is_empty() || !value.is_empty())
                        .map(|(name, value)| Row {
                            name: name.to_owned(),
                            value: value.to_owned(),
                            is_kept: kept(name.trim()),
                        })
                        .collect(),
                    None => old
                        .into_iter()
                        .flatten()
                        .map(|(name, value)| {
                            let value = value.as_str().unwrap_or_default().to_owned();
                            Row { name: name.clone(), value, is_kept: kept(name) }
                        })
                        .collect(),
                };
                view.rows.push(Row { name: String::new(), value: String::new(), is_kept: false });
            }
            Input::EventTypes => {
                view.widget = "events";
                let more = format!("{}.more", self.at);
                let chosen: Vec<String> = match form {
                    Some(form) => {
                        form.all(self.at).chain(items(form.get(&more))).map(str::to_owned).collect()
                    }
                    None => {
                        listed(found).iter().filter_map(|value| value.as_str().map(str::to_owned)).collect()
                    }
                };
                view.groups = groups(registered, &chosen);
                let others = chosen.iter().filter(|name| !registered.contains(name));
                view.more = others.map(String::as_str).collect::<Vec<_>>().join("\n");
            }
            Input::Payload => {
                view.widget = "payload";
                let now = match found {
                    Some(Value::Object(_)) => "template",
                    Some(Value::String(name)) => name,
                    _ => "event",
                };
                let now = form.map_or(now, |form| form.get(self.at));
                let template = found.and_then(|found| found.get("template")).and_then(Value::as_str);
                view.more = match form {
                    Some(form) => form.get("payload.template").to_owned(),
                    None => template.unwrap_or_default().to_owned(),
                };
                let labels = [
                    t.payload_event,
                    t.payload_structured,
                    t.payload_binary,
                    t.payload_profile,
                    t.payload_template,
                ];
                view.options = PAYLOADS
                    .iter()
                    .zip(labels)
                    .map(|(value, label)| Choice { is_chosen: *value == now, ..choice(value, label) })
                    .collect();
            }
            Input::Signatures => {
                view.widget = "signatures";
                let all = listed(found);
                let hex = all.iter().find_map(|found| found.get("hmacSha256Hex")?.as_str());
                view.more =
                    form.map_or_else(|| hex.unwrap_or_default(), |form| form.get("signature.hex")).to_owned();
                let is_new = found.is_none();
                let is_chosen = |name: &str| match form {
                    Some(form) => form.all(self.at).any(|found| found == name),
                    None => (is_new && name == "standard") || all.iter().any(|found| found == name),
                };
                view.options = SIGNATURES
                    .iter()
                    .map(|name| Choice { is_chosen: is_chosen(name), ..choice(name, name) })
                    .collect();
            }
        }
        view
    }
}

/// A form's fields with what stands in them; errors stand at their fields, and what is left of them is returned.
pub(super) fn views(
    t: &Texts,
    fields: &[Field],
    document: &Value,
    form: Option<&Form>,
    registered: &[String],
    errors: &[FieldError],
) -> (Vec<(Part, FieldView)>, Vec<FieldError>) {
    let is_new = document.get("revision").is_none();
    let mut views: Vec<(Part, FieldView)> = fields
        .iter()
        .map(|field| {
            let mut view = field.view(t, document, form, registered);
            view.is_fixed = field.is_fixed && !is_new;
            (field.part, view)
        })
        .collect();
    let mut left = Vec::new();
    for error in errors {
        let of = |field: &&Field| is_below(&error.field, &pointer(field.at));
        // The one that says most about where it is.
        let best = fields.iter().filter(of).max_by_key(|field| field.at.len());
        let view = best.and_then(|field| views.iter_mut().find(|(_, view)| view.name == field.at));
        match view {
            Some((_, view)) => {
                let text = view.error.get_or_insert_default();
                if !text.is_empty() {
                    text.push('\n');
                }
                text.push_str(&error.detail);
            }
            None => left.push(error.clone()),
        }
    }
    (views, left)
}

/// The document of a form: the one that is there, with what was typed.
///
/// # Errors
/// What can't stand in a document.
pub(super) fn document(
    fields: &[Field],
    form: &Form,
    old: &Value,
) -> Result<Map<String, Value>, Vec<FieldError>> {
    let mut document = old.as_object().cloned().unwrap_or_default();
    let is_new = old.get("revision").is_none();
    let mut errors = Vec::new();
    let which = fields.iter().find_map(|field| match field.input {
        Input::Which(all) => Some((all, form.get(field.at))),
        _ => None,
    });
    if let Some((all, chosen)) = which {
        for name in all.iter().filter(|name| **name != chosen) {
            document.remove(*name);
        }
    }
    for field in fields {
        let counts = field.when.is_none_or(|when| which.is_some_and(|(_, chosen)| when == chosen));
        if !counts || matches!(field.input, Input::Which(_)) || (field.is_fixed && !is_new) {
            continue;
        }
        match field.read(form, old) {
            Ok(value) => put(&mut document, field.at, value),
            Err(detail) => errors.push(FieldError::new(pointer(field.at), detail)),
        }
    }
    if errors.is_empty() { Ok(document) } else { Err(errors) }
}

fn put(document: &mut Map<String, Value>, at: &str, value: Option<Value>) {
    match at.split_once('.') {
        None => match value {
            Some(value) => drop(document.insert(at.to_owned(), value)),
            None => drop(document.remove(at)),
        },
        Some((first, rest)) => {
            let inner = document.entry(first).or_insert_with(|| json!({}));
            if !inner.is_object() {
                *inner = json!({});
            }
            if let Value::Object(inner) = inner {
                put(inner, rest, value);
                if inner.is_empty() {
                    document.remove(first);
                }
            }
        }
    }
}

fn pointer(at: &str) -> String {
    format!("/{}", at.replace('.', "/"))
}

/// Whether a place in a document is that of a field, or in it.
fn is_below(place: &str, field: &str) -> bool {
    place.strip_prefix(field).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn items(text: &str) -> Vec<&str> {
    text.split(['\n', '\r', ',']).map(str::trim).filter(|item| !item.is_empty()).collect()
}

fn number(text: &str) -> Result<Value, String> {
    let number = serde_json::from_str::<serde_json::Number>(text);
    number.map(Value::Number).map_err(|_| format!("`{text}` is no number"))
}

fn parsed(text: &str) -> Result<Value, String> {
    serde_json::from_str(text).map_err(|error| format!("this is no JSON: {error}"))
}

fn pretty(value: &Value) -> String {
    serde_json::to_string_pretty(value).unwrap_or_default()
}

/// One, or a list of them.
fn listed(value: Option<&Value>) -> Vec<Value> {
    match value {
        None => Vec::new(),
        Some(Value::Array(items)) => items.clone(),
        Some(one) => vec![one.clone()],
    }
}

/// Registered event types by their entity.
fn groups(registered: &[String], chosen: &[String]) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    for name in registered {
        let (entity, _) = hookstream_core::config::entity_and_action(name);
        let choice = Choice { value: name.clone(), label: name.clone(), is_chosen: chosen.contains(name) };
        match groups.iter_mut().find(|group| group.name == entity) {
            Some(group) => group.choices.push(choice),
            None => groups.push(Group { name: entity.to_owned(), choices: vec![choice] }),
        }
    }
    groups
}

#[cfg(test)]
mod tests;
