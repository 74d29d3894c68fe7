//! From a template's text to its parts.

use super::paths::{Path, Paths};
use super::time::TimeFormat;
use super::{
    Format, Given, Language, MAX_PLACEHOLDERS, MAX_STEPS, MAX_TEMPLATE_BYTES, Part, Place, Placeholder,
    Stands, Template, TemplateError, What,
};

/// Where the text between placeholders has led.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Context {
    Json,
    JsonString {
        /// The last character was a backslash that escapes the next.
        escapes: bool,
    },
    Markup,
    /// Within `<…>`, outside of quotes.
    Tag,
    /// Within quotes in a tag, ended by the same.
    Attribute(char),
    Comment,
    Instruction,
    Cdata,
    Form,
    Text,
}

struct Reader<'t> {
    text: &'t str,
    at: usize,
    place: Place,
    context: Context,
    literal: String,
    parts: Vec<Part>,
    paths: Paths,
    placeholders: usize,
}

pub(super) fn template(text: &str, language: Language) -> Result<Template, TemplateError> {
    let start = Place { line: 1, column: 1 };
    if text.len() > MAX_TEMPLATE_BYTES {
        return Err(start
            .error(format!("a template has at most {MAX_TEMPLATE_BYTES} bytes, this one {}", text.len())));
    }
    let context = match language {
        Language::Json => Context::Json,
        Language::Xml | Language::Html => Context::Markup,
        Language::Form => Context::Form,
        Language::Text => Context::Text,
    };
    let mut reader = Reader {
        text,
        at: 0,
        place: start,
        context,
        literal: String::new(),
        parts: Vec::new(),
        paths: Paths::default(),
        placeholders: 0,
    };
    while reader.step()? {}
    reader.end_literal();
    let texts = reader.parts.iter().map(|part| if let Part::Text(text) = part { text.len() } else { 0 });
    Ok(Template { text_bytes: texts.sum(), parts: reader.parts, paths: reader.paths })
}

impl<'t> Reader<'t> {
    fn rest(&self) -> &'t str {
        self.text.get(self.at..).unwrap_or_default()
    }

    /// Takes a character, or a placeholder; false: there is none left.
    fn step(&mut self) -> Result<bool, TemplateError> {
        let Some(c) = self.rest().chars().next() else { return Ok(false) };
        let begins_cdata = self.context == Context::Tag && self.literal.ends_with("<![CDATA");
        if c == '[' && !begins_cdata {
            let after = self.rest().get(1..).unwrap_or_default();
            if let Some(escaped) = after.strip_prefix('[')
                && Inner::of(escaped, self.context).is_some()
            {
                self.skip("[");
            } else if let Some(inner) = Inner::of(after, self.context) {
                self.placeholder(&inner)?;
                return Ok(true);
            }
        }
        self.literal.push(c);
        self.context = self.context.after(c, &self.literal);
        self.skip(self.rest().get(..c.len_utf8()).unwrap_or_default());
        Ok(true)
    }

    fn skip(&mut self, text: &str) {
        for c in text.chars() {
            if c == '\n' {
                self.place = Place { line: self.place.line + 1, column: 1 };
            } else {
                self.place.column += 1;
            }
        }
        self.at += text.len();
    }

    fn end_literal(&mut self) {
        if !self.literal.is_empty() {
            self.parts.push(Part::Text(std::mem::take(&mut self.literal).into_boxed_str()));
        }
    }

    fn placeholder(&mut self, inner: &Inner<'t>) -> Result<(), TemplateError> {
        let at = self.place;
        let stands = self.context.stands().map_err(|message| at.error(message))?;
        let Some(end) = inner.end else {
            return Err(at.error(format!(
                "the placeholder `[{}` does not end: close it with `]`, or write `[[` for a bracket",
                inner.name
            )));
        };
        self.placeholders += 1;
        if self.placeholders > MAX_PLACEHOLDERS {
            return Err(at.error(format!("a template has at most {MAX_PLACEHOLDERS} placeholders")));
        }
        let what = self.what(inner.name).map_err(|message| at.error(message))?;
        let format = inner.format.map(format).transpose().map_err(|message| at.error(message))?;
        self.end_literal();
        let default = inner.default.map(Given::of);
        self.parts.push(Part::Placeholder(Placeholder { what, format, default, stands, at }));
        // The bracket that begins it, and what is in it up to the one that ends it.
        let whole = self.rest().get(..=end).unwrap_or_default();
        self.skip(whole);
        Ok(())
    }

    fn what(&mut self, name: &str) -> Result<What, String> {
        let is = |known: &str| name.eq_ignore_ascii_case(known);
        let attribute = [
            ("EventType", What::EventType),
            ("EventId", What::EventId),
            ("EventTime", What::EventTime),
            ("Subject", What::Subject),
            ("Source", What::Source),
            ("Account", What::Account),
            ("Data", What::Data),
        ]
        .into_iter()
        .find(|(known, _)| is(known));
        if let Some((_, what)) = attribute {
            return Ok(what);
        }
        let data = name.get(..5).filter(|start| start.eq_ignore_ascii_case("data."));
        let steps = data.map_or(name, |start| name.get(start.len()..).unwrap_or_default());
        let path: Path = steps.split('.').map(Box::from).collect();
        if path.iter().any(|step| step.is_empty()) {
            return Err(format!("the path `{name}` has an empty step"));
        }
        if path.len() > MAX_STEPS {
            return Err(format!("the path `{name}` has more than {MAX_STEPS} steps"));
        }
        let slot = self.paths.add(&path);
        Ok(What::Path { path, slot })
    }
}

fn format(text: &str) -> Result<Format, String> {
    Ok(match text {
        "lower" => Format::Lower,
        "upper" => Format::Upper,
        "json" => Format::Json,
        "base64" => Format::Base64,
        pattern => Format::Time(TimeFormat::parse(pattern).map_err(|reason| {
            format!(
                "the format `{pattern}` is neither `lower`, `upper`, `json`, `base64` nor a pattern for times \
                 such as `dd.MM.yyyy`: {reason} (for a bracket as it is, write `[[`)"
            )
        })?),
    })
}

/// What stands between a placeholder's brackets.
struct Inner<'t> {
    name: &'t str,
    format: Option<&'t str>,
    default: Option<&'t str>,
    /// Of the closing bracket, counted from the opening one.
    end: Option<usize>,
}

impl<'t> Inner<'t> {
    /// Whether a placeholder follows a bracket: a name, and then the end, a format or a default.
    fn of(after: &'t str, context: Context) -> Option<Self> {
        let first = after.chars().next()?;
        if !first.is_alphabetic() && first != '_' {
            return None;
        }
        let is_name = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.');
        let name_end = after.find(|c| !is_name(c))?;
        let (name, rest) = after.split_at(name_end);
        let is_word = matches!(name, "true" | "false" | "null");
        if context == Context::Json && is_word && rest.starts_with(']') {
            return None;
        }
        if !rest.starts_with([']', ':', '|']) {
            return None;
        }
        let (format, rest) = match rest.strip_prefix(':') {
            None => (None, rest),
            Some(rest) => {
                let (format, rest) = rest.split_at(format_end(rest));
                (Some(format), rest)
            }
        };
        let (default, rest) = match rest.strip_prefix('|') {
            None => (None, rest),
            Some(rest) => {
                let (default, rest) = rest.split_at(rest.find(']').unwrap_or(rest.len()));
                (Some(default), rest)
            }
        };
        let end = rest.starts_with(']').then(|| 1 + after.len() - rest.len());
        Some(Self { name, format, default, end })
    }
}

/// Where a format ends: at `|` or `]` outside of quotes.
fn format_end(text: &str) -> usize {
    let mut quoted = false;
    for (at, c) in text.char_indices() {
        match c {
            '\'' => quoted = !quoted,
            '|' | ']' if !quoted => return at,
            _ => {}
        }
    }
    text.len()
}

impl Context {
    /// The context behind a character; `literal` ends with it.
    fn after(self, c: char, literal: &str) -> Self {
        match self {
            Self::Json if c == '"' => Self::JsonString { escapes: false },
            Self::JsonString { escapes: true } => Self::JsonString { escapes: false },
            Self::JsonString { escapes: false } => match c {
                '\\' => Self::JsonString { escapes: true },
                '"' => Self::Json,
                _ => self,
            },
            Self::Markup if c == '<' => Self::Tag,
            Self::Tag => match c {
                '>' => Self::Markup,
                '"' | '\'' => Self::Attribute(c),
                _ if literal.ends_with("<!--") => Self::Comment,
                _ if literal.ends_with("<?") => Self::Instruction,
                _ if literal.ends_with("<![CDATA[") => Self::Cdata,
                _ => self,
            },
            Self::Attribute(quote) if c == quote => Self::Tag,
            Self::Comment if literal.ends_with("-->") => Self::Markup,
            Self::Instruction if literal.ends_with("?>") => Self::Markup,
            Self::Cdata if literal.ends_with("]]>") => Self::Markup,
            _ => self,
        }
    }

    fn stands(self) -> Result<Stands, &'static str> {
        Ok(match self {
            Self::Json => Stands::JsonValue,
            Self::JsonString { escapes: false } => Stands::JsonString,
            Self::JsonString { escapes: true } => return Err("a placeholder can't follow a backslash"),
            Self::Markup => Stands::Markup,
            Self::Attribute(_) => Stands::Markup,
            Self::Cdata => Stands::Cdata,
            Self::Tag => {
                return Err("a placeholder can't stand in a tag but for an attribute's value, in quotes");
            }
            Self::Comment => return Err("a placeholder can't stand in a comment"),
            Self::Instruction => return Err("a placeholder can't stand in `<?…?>`"),
            Self::Form => Stands::Form,
            Self::Text => Stands::Text,
        })
    }
}
