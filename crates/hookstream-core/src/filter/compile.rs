//! From a pattern as it is written to what is asked of an event.

use std::net::IpAddr;

use ipnet::IpNet;
use serde_json::{Map, Value};

use super::condition::{Condition, Range, folded};
use super::facts::Number;
use super::{FilterError, MAX_BYTES, MAX_CLAUSES, MAX_DEPTH, MAX_STARS, MAX_TESTS, Node, pointer};

/// A field, and its alternatives.
type Field = (Vec<Box<str>>, Vec<Condition>);

/// The patterns without `$or` that a pattern comes to.
pub(super) fn clauses(pattern: &Value) -> Result<Vec<Node>, FilterError> {
    let mut compiler = Compiler { at: Vec::new(), tests: 0, stars: 0 };
    let bytes = pattern.to_string().len();
    if bytes > MAX_BYTES {
        return Err(compiler.error(format!("the filter has {bytes} bytes of at most {MAX_BYTES}")));
    }
    let Value::Object(members) = pattern else {
        return Err(compiler.error("a filter is a JSON object: `{\"data\": {\"country\": [\"NO\"]}}`"));
    };
    let clauses = compiler.object(members, &[])?;
    clauses.into_iter().map(|fields| compiler.tree(fields)).collect()
}

struct Compiler {
    /// Where in the pattern.
    at: Vec<String>,
    tests: usize,
    stars: usize,
}

impl Compiler {
    fn error(&self, message: impl Into<String>) -> FilterError {
        FilterError { pointer: pointer(&self.at), message: message.into() }
    }

    fn within<T>(
        &mut self,
        name: impl ToString,
        read: impl FnOnce(&mut Self) -> Result<T, FilterError>,
    ) -> Result<T, FilterError> {
        self.at.push(name.to_string());
        let read = read(self)?;
        self.at.pop();
        Ok(read)
    }

    /// The conjunctions that an object comes to.
    fn object(
        &mut self,
        members: &Map<String, Value>,
        path: &[Box<str>],
    ) -> Result<Vec<Vec<Field>>, FilterError> {
        if members.is_empty() {
            return Err(self.error("is empty: name a field, or leave it out"));
        }
        if path.len() >= MAX_DEPTH {
            return Err(self.error(format!("is deeper than {MAX_DEPTH} objects")));
        }
        let mut clauses: Vec<Vec<Field>> = vec![Vec::new()];
        for (name, value) in members {
            let more = self.within(name, |this| this.member(name, value, path))?;
            if clauses.len() * more.len() > MAX_CLAUSES {
                let message =
                    format!("with all its `$or` the filter comes to more than {MAX_CLAUSES} patterns");
                return Err(self.error(message));
            }
            let joined =
                clauses.iter().flat_map(|clause| more.iter().map(|more| [&clause[..], more].concat()));
            clauses = joined.collect();
        }
        Ok(clauses)
    }

    fn member(
        &mut self,
        name: &str,
        value: &Value,
        path: &[Box<str>],
    ) -> Result<Vec<Vec<Field>>, FilterError> {
        if name == "$or" {
            return self.alternatives(value, path);
        }
        let path = [path, &[Box::from(name)]].concat();
        match value {
            Value::Object(_) if path.len() == 1 && name != "data" => {
                Err(self
                    .error("is an attribute, which holds text: what the payload holds stands under `data`"))
            }
            Value::Object(members) => self.object(members, &path),
            Value::Array(values) if values.is_empty() => {
                Err(self.error("has no alternative: name what is wanted, `[\"a\", \"b\"]`"))
            }
            Value::Array(values) => {
                let tests = self.tests(values)?;
                Ok(vec![vec![(path, tests)]])
            }
            _ => Err(self.error("must be a list of what is wanted, `[\"a\"]`, or an object of fields")),
        }
    }

    fn alternatives(&mut self, value: &Value, path: &[Box<str>]) -> Result<Vec<Vec<Field>>, FilterError> {
        let Some(alternatives) = value.as_array().filter(|alternatives| alternatives.len() >= 2) else {
            return Err(self.error("must be a list of two patterns at least: `[{…}, {…}]`"));
        };
        let mut clauses = Vec::new();
        for (index, alternative) in alternatives.iter().enumerate() {
            clauses.extend(self.within(index, |this| match alternative {
                Value::Object(members) => this.object(members, path),
                _ => Err(this.error("must be a pattern: an object of fields")),
            })?);
            if clauses.len() > MAX_CLAUSES {
                let message =
                    format!("with all its `$or` the filter comes to more than {MAX_CLAUSES} patterns");
                return Err(self.error(message));
            }
        }
        Ok(clauses)
    }

    fn tests(&mut self, values: &[Value]) -> Result<Vec<Condition>, FilterError> {
        let mut tests = Vec::with_capacity(values.len());
        for (index, value) in values.iter().enumerate() {
            self.tests += 1;
            if self.tests > MAX_TESTS {
                return Err(self.error(format!("the filter has more than {MAX_TESTS} alternatives")));
            }
            tests.push(self.within(index, |this| this.test(value))?);
        }
        Ok(tests)
    }

    fn test(&mut self, value: &Value) -> Result<Condition, FilterError> {
        Ok(match value {
            Value::Null => Condition::Null,
            Value::Bool(value) => Condition::Bool(*value),
            Value::Number(number) => Condition::Number(Number::of(number)),
            Value::String(text) => Condition::Text(text.as_str().into()),
            Value::Array(_) => return Err(self.error("is a list in a list: alternatives stand side by side")),
            Value::Object(members) => {
                let mut members = members.iter();
                let (Some((operator, operand)), None) = (members.next(), members.next()) else {
                    return Err(self.error("must have one operator: `{\"prefix\": \"a\"}`"));
                };
                return self.within(operator, |this| this.operator(operator, operand));
            }
        })
    }

    fn operator(&mut self, operator: &str, operand: &Value) -> Result<Condition, FilterError> {
        match operator {
            "prefix" => self.affix(operand, Condition::Prefix, Condition::PrefixAnyCase),
            "suffix" => self.affix(operand, Condition::Suffix, Condition::SuffixAnyCase),
            "equals-ignore-case" => Ok(Condition::AnyCase(folded(self.text(operand)?).into())),
            "wildcard" => self.wildcard(operand),
            "numeric" => self.numeric(operand),
            "cidr" => self.cidr(operand),
            "exists" => match operand {
                Value::Bool(true) => Ok(Condition::Exists),
                Value::Bool(false) => Ok(Condition::Absent),
                _ => Err(self.error("must be `true` or `false`")),
            },
            "anything-but" => self.anything_but(operand),
            _ => Err(self.error(
                "is no operator: there are `prefix`, `suffix`, `equals-ignore-case`, `wildcard`, `anything-but`, \
                 `numeric`, `exists` and `cidr`",
            )),
        }
    }

    fn text<'v>(&self, operand: &'v Value) -> Result<&'v str, FilterError> {
        operand.as_str().ok_or_else(|| self.error("must be text"))
    }

    fn affix(
        &mut self,
        operand: &Value,
        as_it_is: impl Fn(Box<str>) -> Condition,
        any_case: impl Fn(Box<str>) -> Condition,
    ) -> Result<Condition, FilterError> {
        if let Value::Object(members) = operand {
            let mut members = members.iter();
            let (Some((name, text)), None) = (members.next(), members.next()) else {
                return Err(self.error("must be text, or `{\"equals-ignore-case\": \"…\"}`"));
            };
            return self.within(name, |this| {
                if name != "equals-ignore-case" {
                    return Err(this.error("is none here: there is `equals-ignore-case`"));
                }
                Ok(any_case(folded(this.not_empty(text)?).into()))
            });
        }
        Ok(as_it_is(self.not_empty(operand)?.into()))
    }

    fn not_empty<'v>(&self, operand: &'v Value) -> Result<&'v str, FilterError> {
        let text = self.text(operand)?;
        if text.is_empty() {
            Err(self.error("is empty: everything begins and ends with nothing"))
        } else {
            Ok(text)
        }
    }

    fn wildcard(&mut self, operand: &Value) -> Result<Condition, FilterError> {
        let text = self.text(operand)?;
        let mut parts = vec![String::new()];
        let mut chars = text.chars().peekable();
        while let Some(c) = chars.next() {
            match c {
                '*' if chars.peek() == Some(&'*') => {
                    return Err(self.error("has two `*` in a row: one is as good"));
                }
                '*' => {
                    self.stars += 1;
                    parts.push(String::new());
                }
                '\\' => match chars.next() {
                    Some(c @ ('*' | '\\')) => parts.last_mut().expect("there is one").push(c),
                    _ => {
                        return Err(
                            self.error("has a `\\` that stands before neither `*` nor `\\`: write `\\\\`")
                        );
                    }
                },
                c => parts.last_mut().expect("there is one").push(c),
            }
        }
        if self.stars > MAX_STARS {
            return Err(self.error(format!("the filter has more than {MAX_STARS} `*`")));
        }
        Ok(Condition::Wildcard(parts.into_iter().map(String::into_boxed_str).collect()))
    }

    fn numeric(&mut self, operand: &Value) -> Result<Condition, FilterError> {
        const FORM: &str = "must be a list of comparisons: `[\">\", 0, \"<=\", 100]`, or `[\"=\", 5]`";
        let Some(parts) = operand.as_array().filter(|parts| matches!(parts.len(), 2 | 4)) else {
            return Err(self.error(FORM));
        };
        let mut range = Range::default();
        for pair in parts.chunks_exact(2) {
            let (Some(comparison), Some(number)) = (pair[0].as_str(), pair[1].as_number()) else {
                return Err(self.error(FORM));
            };
            let number = Number::of(number);
            let (bound, is_in) = match comparison {
                "=" if parts.len() == 2 => return Ok(Condition::Number(number)),
                ">" | ">=" => (&mut range.from, comparison == ">="),
                "<" | "<=" => (&mut range.to, comparison == "<="),
                _ => return Err(self.error(FORM)),
            };
            if bound.replace((number, is_in)).is_some() {
                return Err(self.error("has two bounds on the same side"));
            }
        }
        if let (Some((from, _)), Some((to, _))) = (range.from, range.to)
            && from >= to
        {
            return Err(self.error("allows no number: the lower bound must be below the upper one"));
        }
        Ok(Condition::Range(range))
    }

    fn cidr(&mut self, operand: &Value) -> Result<Condition, FilterError> {
        let text = self.text(operand)?;
        let network = text.parse::<IpNet>().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from));
        network
            .map(Condition::Cidr)
            .ok_or_else(|| self.error("must be a network: `10.0.0.0/8`, `2001:db8::/32`"))
    }

    fn anything_but(&mut self, operand: &Value) -> Result<Condition, FilterError> {
        let tests = match operand {
            Value::Array(values) if values.is_empty() => {
                return Err(self.error("has nothing that is not wanted"));
            }
            Value::Array(values) => self.listed(values)?,
            Value::Object(members) => {
                let mut members = members.iter();
                let (Some((operator, operand)), None) = (members.next(), members.next()) else {
                    return Err(self.error("must have one operator: `{\"prefix\": \"a\"}`"));
                };
                self.within(operator, |this| this.but(operator, operand))?
            }
            value => self.listed(std::slice::from_ref(value))?,
        };
        Ok(Condition::AnythingBut(tests.into()))
    }

    /// Texts or numbers that are not wanted.
    fn listed(&mut self, values: &[Value]) -> Result<Vec<Condition>, FilterError> {
        if values.iter().any(|value| !matches!(value, Value::String(_) | Value::Number(_))) {
            return Err(self.error("must be text or a number, or a list of them"));
        }
        self.tests(values)
    }

    /// An operator of what is not wanted, with one operand or several.
    fn but(&mut self, operator: &str, operand: &Value) -> Result<Vec<Condition>, FilterError> {
        if !matches!(operator, "prefix" | "suffix" | "equals-ignore-case" | "wildcard") {
            return Err(self.error(
                "can't be turned round: there are `prefix`, `suffix`, `equals-ignore-case` and `wildcard`",
            ));
        }
        let operands = match operand {
            Value::Array(operands) if operands.is_empty() => {
                return Err(self.error("has nothing that is not wanted"));
            }
            Value::Array(operands) => operands.as_slice(),
            operand => std::slice::from_ref(operand),
        };
        self.tests += operands.len();
        if self.tests > MAX_TESTS {
            return Err(self.error(format!("the filter has more than {MAX_TESTS} alternatives")));
        }
        operands.iter().map(|operand| self.operator(operator, operand)).collect()
    }

    /// Fields as a tree.
    fn tree(&self, fields: Vec<Field>) -> Result<Node, FilterError> {
        let mut root = Node::default();
        for (path, tests) in fields {
            let mut node = &mut root;
            for name in &path {
                let at = node.children.iter().position(|(known, _)| known == name);
                let at = at.unwrap_or_else(|| {
                    node.children.push((name.clone(), Node::default()));
                    node.children.len() - 1
                });
                node = &mut node.children[at].1;
            }
            if !node.tests.is_empty() {
                let place = pointer(&path);
                let message = format!("`{place}` stands beside the `$or` and in it: say it once");
                return Err(self.error(message));
            }
            node.may_be_absent = tests.contains(&Condition::Absent);
            node.tests = tests.into();
            node.path = path.into();
        }
        Ok(root)
    }
}
