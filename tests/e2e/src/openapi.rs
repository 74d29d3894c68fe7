//! What an API says that it has: its operations, for tests that try all of them.

use serde_json::Value;

/// One method of one path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation {
    /// `GET`
    pub method: String,
    /// `/api/v1/webhooks/{id}`
    pub path: String,
    /// Names of its query parameters.
    pub query: Vec<String>,
}

impl Operation {
    /// The path with its parameters replaced: by each of these in turn, all of a path by the same.
    pub fn paths<'a>(&'a self, values: &'a [String]) -> impl Iterator<Item = (String, &'a str)> + 'a {
        values.iter().map(|value| (self.path_with(value), value.as_str()))
    }

    #[must_use]
    pub fn has_parameters(&self) -> bool {
        self.path.contains('{')
    }

    /// The path with this in place of its parameters.
    #[must_use]
    pub fn path_with(&self, value: &str) -> String {
        let segment =
            |segment: &str| if segment.starts_with('{') { value.to_owned() } else { segment.to_owned() };
        self.path.split('/').map(segment).collect::<Vec<_>>().join("/")
    }
}

/// All operations of a document, in its order.
///
/// # Panics
/// If it is no OpenAPI document.
#[must_use]
pub fn operations(document: &Value) -> Vec<Operation> {
    const METHODS: [&str; 5] = ["get", "post", "put", "patch", "delete"];
    let paths = document["paths"].as_object().expect("an OpenAPI document has paths");
    let mut all = Vec::new();
    for (path, item) in paths {
        for method in METHODS {
            let Some(operation) = item.get(method) else { continue };
            let parameters = operation["parameters"].as_array().into_iter().flatten();
            let query = parameters.filter(|parameter| parameter["in"] == "query");
            let query = query.filter_map(|parameter| parameter["name"].as_str()).map(str::to_owned).collect();
            all.push(Operation { method: method.to_ascii_uppercase(), path: path.clone(), query });
        }
    }
    all
}
