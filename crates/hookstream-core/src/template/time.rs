//! Times as people want them written: the pattern letters of Java's `DateTimeFormatter`, as far as they are about an
//! instant in UTC.

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

/// A pattern such as `dd.MM.yyyy'T'HH:mm:ss'Z'`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TimeFormat(Vec<Part>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Field(Field, usize),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Field {
    Year,
    Month,
    Day,
    DayOfYear,
    /// 0 to 23.
    Hour,
    /// 1 to 12.
    HalfDayHour,
    HalfDay,
    Minute,
    Second,
    Fraction,
    Weekday,
    /// `Z`.
    Zulu,
    /// `+0000`.
    Offset,
}

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const WEEKDAYS: [&str; 7] = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];
/// Of names that are shortened.
const SHORT: usize = 3;

impl TimeFormat {
    /// # Errors
    /// What is wrong with the pattern.
    pub(super) fn parse(pattern: &str) -> Result<Self, String> {
        let mut parts: Vec<Part> = Vec::new();
        let text = |parts: &mut Vec<Part>, c: char| match parts.last_mut() {
            Some(Part::Text(text)) => text.push(c),
            _ => parts.push(Part::Text(c.to_string())),
        };
        let mut rest = pattern.chars().peekable();
        while let Some(c) = rest.next() {
            match c {
                '\'' if rest.next_if_eq(&'\'').is_some() => text(&mut parts, '\''),
                '\'' => loop {
                    match rest.next() {
                        None => return Err("a quote in it does not end".to_owned()),
                        Some('\'') if rest.next_if_eq(&'\'').is_none() => break,
                        Some(c) => text(&mut parts, c),
                    }
                },
                c if c.is_ascii_alphabetic() => {
                    let mut count = 1;
                    while rest.next_if_eq(&c).is_some() {
                        count += 1;
                    }
                    let field = field(c, count).ok_or_else(|| {
                        let letters = c.to_string().repeat(count);
                        format!("`{letters}` is no part of a time: text stands in quotes, `'{letters}'`")
                    })?;
                    parts.push(Part::Field(field, count));
                }
                c => text(&mut parts, c),
            }
        }
        Ok(Self(parts))
    }

    /// The time in UTC; none if the text is no time (RFC 3339, or a date).
    pub(super) fn format(&self, time: &str) -> Option<String> {
        let at = parse(time)?;
        let mut out = String::with_capacity(32);
        for part in &self.0 {
            match part {
                Part::Text(text) => out.push_str(text),
                Part::Field(field, count) => push(&mut out, *field, *count, at),
            }
        }
        Some(out)
    }
}

fn field(letter: char, count: usize) -> Option<Field> {
    let (field, most) = match letter {
        'y' | 'u' => (Field::Year, 4),
        'M' | 'L' => (Field::Month, 4),
        'd' => (Field::Day, 2),
        'D' => (Field::DayOfYear, 3),
        'H' => (Field::Hour, 2),
        'h' => (Field::HalfDayHour, 2),
        'a' => (Field::HalfDay, 1),
        'm' => (Field::Minute, 2),
        's' => (Field::Second, 2),
        'S' => (Field::Fraction, 9),
        'E' => (Field::Weekday, 4),
        'X' => (Field::Zulu, 3),
        'Z' => (Field::Offset, 3),
        _ => return None,
    };
    (count <= most).then_some(field)
}

fn parse(time: &str) -> Option<DateTime> {
    let time = time.trim();
    if let Ok(at) = time.parse::<Timestamp>() {
        return Some(at.to_zoned(TimeZone::UTC).datetime());
    }
    // A local time or a date is taken as it is written.
    time.parse::<DateTime>().ok()
}

fn push(out: &mut String, field: Field, count: usize, at: DateTime) {
    let mut number = |value: i64| out.push_str(&format!("{value:0count$}"));
    match field {
        Field::Year if count == 2 => number(i64::from(at.year()).rem_euclid(100)),
        Field::Year => number(at.year().into()),
        Field::Month if count > 2 => {
            let name = usize::try_from(at.month() - 1).ok().and_then(|month| MONTHS.get(month));
            push_name(out, name.copied().unwrap_or_default(), count);
        }
        Field::Month => number(at.month().into()),
        Field::Day => number(at.day().into()),
        Field::DayOfYear => number(at.day_of_year().into()),
        Field::Hour => number(at.hour().into()),
        Field::HalfDayHour => number(i64::from((at.hour() + 11) % 12 + 1)),
        Field::HalfDay => out.push_str(if at.hour() < 12 { "AM" } else { "PM" }),
        Field::Minute => number(at.minute().into()),
        Field::Second => number(at.second().into()),
        Field::Fraction => {
            let digits = format!("{:09}", at.subsec_nanosecond());
            out.push_str(digits.get(..count).unwrap_or(&digits));
        }
        Field::Weekday => {
            let day = usize::try_from(at.weekday().to_monday_zero_offset()).unwrap_or_default();
            push_name(out, WEEKDAYS.get(day).copied().unwrap_or_default(), count);
        }
        Field::Zulu => out.push('Z'),
        Field::Offset => out.push_str("+0000"),
    }
}

fn push_name(out: &mut String, name: &str, count: usize) {
    out.push_str(if count > SHORT { name } else { name.get(..SHORT).unwrap_or(name) });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn format(pattern: &str, time: &str) -> Option<String> {
        TimeFormat::parse(pattern).unwrap().format(time)
    }

    #[test]
    fn patterns() {
        let time = "2024-03-08T14:05:09.0421+02:00";
        for (pattern, expected) in [
            ("dd.MM.yyyy'T'HH:mm:ss'Z'", "08.03.2024T12:05:09Z"),
            ("d/M/yy h:mm a", "8/3/24 12:05 PM"),
            ("EEE, dd MMM yyyy HH:mm:ss.SSS X", "Fri, 08 Mar 2024 12:05:09.042 Z"),
            ("EEEE d MMMM", "Friday 8 March"),
            ("DDD", "068"),
            ("'o''clock' HH", "o'clock 12"),
            ("yyyyMMdd", "20240308"),
            ("", ""),
        ] {
            assert_eq!(format(pattern, time).as_deref(), Some(expected), "{pattern}");
        }
        assert_eq!(format("hh a", "2024-01-01T00:30:00Z").as_deref(), Some("12 AM"));
        assert_eq!(format("dd.MM.yyyy HH:mm", "2024-03-08").as_deref(), Some("08.03.2024 00:00"));
    }

    #[test]
    fn what_is_no_time_is_not_formatted() {
        for text in ["", "soon", "12", "2024-13-01T00:00:00Z"] {
            assert_eq!(format("yyyy", text), None, "{text}");
        }
    }

    #[test]
    fn bad_patterns_say_why() {
        for (pattern, reason) in [
            ("yyyy-MM-ddTHH:mm", "`T` is no part of a time: text stands in quotes, `'T'`"),
            ("ddd", "`ddd` is no part of a time: text stands in quotes, `'ddd'`"),
            ("yyyy 'open", "a quote in it does not end"),
        ] {
            assert_eq!(TimeFormat::parse(pattern).unwrap_err(), reason);
        }
    }
}
