//! The layers (defaults, file, environment), and how all of their problems are found at once.
//!
//! `defaults.yaml` names every key, so unknown ones are found by comparing. A value that doesn't parse is noted,
//! replaced by its default, and the rest is tried again; so one run over the settings sees all of them.

use std::path::Path;

use config::{Config, ConfigError, Environment, File, FileFormat, Map, Source, Value, ValueKind};

use crate::{DEFAULTS, DEVELOPMENT, Problem, Settings};

const PREFIX: &str = "HOOKSTREAM";
const ENVIRONMENT: &str = "the environment";

type Table = Map<String, Value>;

/// A layer that has been checked, as a source.
#[derive(Clone, Debug)]
struct Layer(Table);

impl Source for Layer {
    fn clone_into_box(&self) -> Box<dyn Source + Send + Sync> {
        Box::new(self.clone())
    }

    fn collect(&self) -> Result<Table, ConfigError> {
        Ok(self.0.clone())
    }
}

impl Settings {
    /// Merges defaults, file and environment; for services, which need the key too.
    ///
    /// # Errors
    /// Every problem there is.
    pub fn load(config_file: Option<&Path>, env: Map<String, String>) -> Result<Self, Vec<Problem>> {
        load(&[DEFAULTS], config_file, env, Self::validate)
    }

    /// The same without asking for the key: for commands that touch no secrets.
    ///
    /// # Errors
    /// Every problem there is.
    pub fn load_without_key(
        config_file: Option<&Path>,
        env: Map<String, String>,
    ) -> Result<Self, Vec<Problem>> {
        load(&[DEFAULTS], config_file, env, Self::validate_without_key)
    }

    /// The same for `hookstream dev`, which makes a key if there is none.
    ///
    /// # Errors
    /// Every problem there is.
    pub fn load_for_development(
        config_file: Option<&Path>,
        env: Map<String, String>,
    ) -> Result<Self, Vec<Problem>> {
        load(&[DEFAULTS, DEVELOPMENT], config_file, env, Self::validate_without_key)
    }

    fn validate_without_key(&self) -> Result<(), Vec<Problem>> {
        let problems = self.problems();
        if problems.is_empty() { Ok(()) } else { Err(problems) }
    }
}

fn load(
    defaults: &[&str],
    config_file: Option<&Path>,
    env: Map<String, String>,
    validate: impl FnOnce(&Settings) -> Result<(), Vec<Problem>>,
) -> Result<Settings, Vec<Problem>> {
    let layers = defaults.iter().map(|yaml| Layer(parse(yaml).expect("a test reads the defaults")));
    let defaults = merge(layers);
    let mut problems = Vec::new();
    let file_name = config_file.map(|path| path.display().to_string()).unwrap_or_default();
    let file = config_file.map_or_else(Table::new, |path| read(path, &mut problems));
    let file = known_of_file(file, &file_name, &defaults, &mut problems);
    let env = known_of_env(env, &defaults, &mut problems);

    let mut merged = merge([Layer(defaults.clone()), Layer(file.clone()), Layer(env.clone())]);

    let origin = |key: &str| {
        let (section, name) = key.split_once('.')?;
        let given = |layer: &Table| table(layer.get(section)?).and_then(|keys| keys.get(name)).map(drop);
        if given(&env).is_some() {
            Some(ENVIRONMENT.to_owned())
        } else {
            given(&file).map(|()| format!("`{file_name}`"))
        }
    };
    let found_before = problems.len();
    let settings = loop {
        match Value::new(None, ValueKind::Table(merged.clone())).try_deserialize::<Settings>() {
            Ok(settings) => break settings,
            Err(error) => {
                let (key, message) = explain(error);
                let Some((section, name)) = key.split_once('.') else {
                    problems.push(Problem::new(key, message));
                    return Err(problems);
                };
                let default = defaults.get(section).and_then(table).and_then(|keys| keys.get(name));
                let keys = merged.get_mut(section).and_then(table_mut);
                let (Some(default), Some(keys)) = (default, keys) else {
                    problems.push(Problem::new(key, message));
                    return Err(problems);
                };
                let value = keys.insert(name.to_owned(), default.clone());
                let shown = value.filter(|_| !is_secret(&key)).and_then(|value| value.into_string().ok());
                let origin = origin(&key);
                if origin.is_none() {
                    // A default that doesn't parse would come back for ever.
                    problems.push(Problem::new(key, message));
                    return Err(problems);
                }
                problems.push(Problem { value: shown, origin, ..Problem::new(key, message) });
            }
        }
    };
    // They were found in the order of a hash; a person reads them in the order of names.
    problems[found_before..].sort_by(|a, b| a.key.cmp(&b.key));
    if let Err(more) = validate(&settings) {
        // A value that didn't parse is told once, and not again as the default that stands in for it.
        let told: Vec<_> = problems.iter().map(|problem| problem.key.clone()).collect();
        let more = more.into_iter().filter(|problem| !told.contains(&problem.key));
        problems.extend(more.map(|problem| Problem { origin: origin(&problem.key), ..problem }));
    }
    if problems.is_empty() { Ok(settings) } else { Err(problems) }
}

/// Later layers count more.
fn merge(layers: impl IntoIterator<Item = Layer>) -> Table {
    let builder = layers.into_iter().fold(Config::builder(), |builder, layer| builder.add_source(layer));
    builder.build().and_then(|config| config.collect()).expect("tables in memory merge")
}

fn parse(yaml: &str) -> Result<Table, ConfigError> {
    Config::builder().add_source(File::from_str(yaml, FileFormat::Yaml)).build()?.collect()
}

fn read(path: &Path, problems: &mut Vec<Problem>) -> Table {
    let name = path.display().to_string();
    let table = match std::fs::read_to_string(path) {
        Ok(text) => parse(&text).map_err(|error| format!("is no YAML settings file: {error}")),
        Err(error) => Err(format!("could not read the settings file: {error}")),
    };
    table.unwrap_or_else(|message| {
        problems.push(Problem::new(name, message));
        Table::new()
    })
}

/// What of a file's sections and keys exists. Those without a value (all commented out) count as not given.
fn known_of_file(file: Table, file_name: &str, defaults: &Table, problems: &mut Vec<Problem>) -> Table {
    let mut known = Table::new();
    let mut problem = |key: String, message: String| {
        problems.push(Problem { origin: Some(format!("`{file_name}`")), ..Problem::new(key, message) });
    };
    for (section, value) in sorted(file) {
        let Some(default_keys) = defaults.get(&section).and_then(table) else {
            problem(section, format!("unknown section; there are {}", names(defaults)));
            continue;
        };
        let keys = match value.kind {
            ValueKind::Table(keys) => keys,
            ValueKind::Nil => continue,
            _ => {
                problem(section, format!("must be a section with the keys {}", names(default_keys)));
                continue;
            }
        };
        let mut known_keys = Table::new();
        for (key, value) in sorted(keys) {
            if !default_keys.contains_key(&key) {
                let message = format!("unknown key; `{section}` has {}", names(default_keys));
                problem(format!("{section}.{key}"), message);
            } else if value.kind != ValueKind::Nil {
                known_keys.insert(key, value);
            }
        }
        known.insert(section, Value::new(None, ValueKind::Table(known_keys)));
    }
    known
}

/// What of the environment's variables exists.
fn known_of_env(env: Map<String, String>, defaults: &Table, problems: &mut Vec<Problem>) -> Table {
    let source = Environment::with_prefix(PREFIX).prefix_separator("__").separator("__").ignore_empty(true);
    let given = source.source(Some(env)).collect().expect("the variables are text already");
    let mut known = Table::new();
    for (path, value) in sorted(given) {
        let (section, key) = path.split_once('.').unwrap_or((&path, ""));
        let variable = format!("{PREFIX}__{}", path.replace('.', "__").to_uppercase());
        let mut problem = |message| {
            problems
                .push(Problem { origin: Some(ENVIRONMENT.to_owned()), ..Problem::new(&variable, message) });
        };
        let Some(default_keys) = defaults.get(section).and_then(table) else {
            problem(format!("unknown section `{section}`; there are {}", names(defaults)));
            continue;
        };
        if key.is_empty() {
            problem(format!("names a section; a key must follow: {}", names(default_keys)));
        } else if section == "kafka" && (key == "properties" || key.starts_with("properties.")) {
            problem("`kafka.properties` can only be given in a file: variables can't name them".to_owned());
        } else if default_keys.contains_key(key) {
            let keys = known.entry(section.to_owned()).or_insert_with(|| Value::from(Table::new()));
            if let Some(keys) = table_mut(keys) {
                keys.insert(key.to_owned(), value);
            }
        } else {
            problem(format!("unknown key `{key}`; `{section}` has {}", names(default_keys)));
        }
    }
    known
}

/// Which key an error is about, as `section.key`, and what it says without the key.
fn explain(error: ConfigError) -> (String, String) {
    let section_key = |path: Option<String>| {
        let path = path.unwrap_or_default();
        let path = path.split('[').next().unwrap_or_default();
        path.splitn(3, '.').take(2).collect::<Vec<_>>().join(".")
    };
    match error {
        ConfigError::At { error, key, .. } => {
            let (_, message) = explain(*error);
            (section_key(key), message)
        }
        ConfigError::Type { unexpected, expected, key, .. } => {
            (section_key(key), format!("must be {expected}, and is {unexpected}"))
        }
        ConfigError::NotFound(key) => (section_key(Some(key)), "must be given".to_owned()),
        other => (String::new(), other.to_string()),
    }
}

fn is_secret(key: &str) -> bool {
    matches!(key, "secrets.key" | "secrets.previous_keys" | "kafka.properties" | "api.sign_in")
}

fn table(value: &Value) -> Option<&Table> {
    if let ValueKind::Table(table) = &value.kind { Some(table) } else { None }
}

fn table_mut(value: &mut Value) -> Option<&mut Table> {
    if let ValueKind::Table(table) = &mut value.kind { Some(table) } else { None }
}

fn names(table: &Table) -> String {
    let mut names: Vec<_> = table.keys().map(|name| format!("`{name}`")).collect();
    names.sort_unstable();
    names.join(", ")
}

/// The map's order is that of a hash; problems come in the order of names.
fn sorted(table: Table) -> Vec<(String, Value)> {
    let mut entries: Vec<_> = table.into_iter().collect();
    entries.sort_by(|a, b| a.0.cmp(&b.0));
    entries
}

#[cfg(test)]
mod tests;
