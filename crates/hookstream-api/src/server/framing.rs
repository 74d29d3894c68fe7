//! Where HTTP/1.1 messages begin and end, read more strictly than HTTP allows (RFC 9112 §2.2, §6.3, §11).
//!
//! A machine without IO that is fed all bytes of a connection. It refuses what two readers could frame differently:
//! a line that ends without CR LF, a folded line, control characters, a length that is given twice, signed, or
//! beside `Transfer-Encoding`, codings other than `chunked`, no `Host` or two. Each line is judged as soon as it ends.

/// What is fed is not framed as it must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Misframed {
    /// The first byte that must not be passed on.
    pub at: usize,
    pub problem: &'static str,
}

/// Bytes of a line that are taken; longer heads are refused by the server with 431.
const MAX_LINE: usize = 64 * 1024;
/// Bytes of a chunk's size line: the size in hexadecimal, and extensions, which nobody reads.
const MAX_CHUNK_LINE: usize = 256;

/// The machine.
#[derive(Debug, Default)]
pub struct Framing {
    state: State,
    /// The line so far, without its end.
    line: Vec<u8>,
    /// The last byte was a CR.
    has_cr: bool,
    head: Head,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    RequestLine,
    Header,
    /// Of the body or of a chunk, bytes that are still to come.
    Body(u64),
    ChunkSize,
    Chunk(u64),
    ChunkEnd,
    Trailer,
    /// After an upgrade or a fault nothing is looked at.
    Faulty,
}

/// What a head has said so far.
#[derive(Debug, Default)]
struct Head {
    is_http_1_0: bool,
    hosts: usize,
    length: Option<u64>,
    is_chunked: bool,
}

impl Framing {
    /// Reads on.
    ///
    /// # Errors
    /// [`Misframed`]: nothing from there on may be passed on, and the connection is to be closed.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<(), Misframed> {
        let mut at = 0;
        while at < bytes.len() {
            match &mut self.state {
                State::Faulty => return Err(Misframed { at, problem: "follows what was refused" }),
                State::Body(left) | State::Chunk(left) => {
                    let taken = (*left).min((bytes.len() - at) as u64);
                    *left -= taken;
                    at += usize::try_from(taken).unwrap_or(usize::MAX);
                    if *left == 0 {
                        self.state = match self.state {
                            State::Body(_) => State::RequestLine,
                            _ => State::ChunkEnd,
                        };
                    }
                }
                _ => {
                    self.byte(bytes[at]).map_err(|problem| {
                        self.state = State::Faulty;
                        Misframed { at, problem }
                    })?;
                    at += 1;
                }
            }
        }
        Ok(())
    }

    fn byte(&mut self, byte: u8) -> Result<(), &'static str> {
        match (byte, self.has_cr) {
            (b'\n', true) => {
                self.has_cr = false;
                let line = std::mem::take(&mut self.line);
                let result = self.line(&line);
                self.line = line;
                self.line.clear();
                result
            }
            (b'\n', false) => Err("a line ends without CR"),
            (_, true) => Err("a CR is followed by something else than LF"),
            (b'\r', false) => {
                self.has_cr = true;
                Ok(())
            }
            (0..=8 | 11..=31 | 127, false) => Err("a control character"),
            (b' ' | b'\t', false) if self.line.is_empty() => Err("a line begins with a space"),
            (byte, false) => {
                let max = if self.state == State::ChunkSize { MAX_CHUNK_LINE } else { MAX_LINE };
                if self.line.len() >= max {
                    return Err("a line is too long");
                }
                self.line.push(byte);
                Ok(())
            }
        }
    }

    fn line(&mut self, line: &[u8]) -> Result<(), &'static str> {
        match self.state {
            // Empty lines before a request are passed over (RFC 9112 §2.2).
            State::RequestLine if line.is_empty() => {}
            State::RequestLine => {
                self.head = Head { is_http_1_0: line.ends_with(b" HTTP/1.0"), ..Head::default() };
                self.state = State::Header;
            }
            State::Header if line.is_empty() => self.state = self.head.end()?,
            State::Header => self.head.header(line)?,
            State::ChunkSize => {
                self.state = match chunk_size(line)? {
                    0 => State::Trailer,
                    size => State::Chunk(size),
                };
            }
            State::ChunkEnd if line.is_empty() => self.state = State::ChunkSize,
            State::ChunkEnd => return Err("a chunk is longer than its size"),
            State::Trailer if line.is_empty() => self.state = State::RequestLine,
            State::Trailer => drop(name_and_value(line)?),
            State::Body(_) | State::Chunk(_) | State::Faulty => {}
        }
        Ok(())
    }
}

impl Head {
    fn header(&mut self, line: &[u8]) -> Result<(), &'static str> {
        let (name, value) = name_and_value(line)?;
        if name.eq_ignore_ascii_case(b"host") {
            self.hosts += 1;
            if self.hosts > 1 {
                return Err("two `Host`s");
            }
        } else if name.eq_ignore_ascii_case(b"content-length") {
            if self.length.replace(length(value)?).is_some() {
                return Err("two `Content-Length`s");
            }
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            if self.is_chunked || self.is_http_1_0 || !value.eq_ignore_ascii_case(b"chunked") {
                return Err("a `Transfer-Encoding` other than one `chunked`");
            }
            self.is_chunked = true;
        }
        if self.is_chunked && self.length.is_some() {
            return Err("both `Content-Length` and `Transfer-Encoding`");
        }
        Ok(())
    }

    fn end(&self) -> Result<State, &'static str> {
        if self.hosts == 0 && !self.is_http_1_0 {
            return Err("no `Host`");
        }
        Ok(match self.length {
            _ if self.is_chunked => State::ChunkSize,
            None | Some(0) => State::RequestLine,
            Some(length) => State::Body(length),
        })
    }
}

fn name_and_value(line: &[u8]) -> Result<(&[u8], &[u8]), &'static str> {
    let colon = line.iter().position(|byte| *byte == b':').ok_or("a header without a colon")?;
    let (name, value) = (&line[..colon], &line[colon + 1..]);
    let in_token = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    if name.is_empty() || !name.iter().all(in_token) {
        return Err("a header's name is not a token");
    }
    Ok((name, value.trim_ascii()))
}

/// Digits only, and no more than fit.
fn length(value: &[u8]) -> Result<u64, &'static str> {
    const MAX_DIGITS: usize = 18;
    let is_number = (1..=MAX_DIGITS).contains(&value.len()) && value.iter().all(u8::is_ascii_digit);
    let parsed = is_number.then(|| std::str::from_utf8(value).ok()?.parse().ok()).flatten();
    parsed.ok_or("a `Content-Length` that is not a number")
}

fn chunk_size(line: &[u8]) -> Result<u64, &'static str> {
    const MAX_DIGITS: usize = 15;
    let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
    // An extension begins with `;`; the spaces that RFC 9112 §7.1.1 tolerates before it are not.
    if !matches!(line.get(digits), None | Some(b';')) || !(1..=MAX_DIGITS).contains(&digits) {
        return Err("a chunk's size is not a number");
    }
    let size = std::str::from_utf8(&line[..digits]).ok().and_then(|text| u64::from_str_radix(text, 16).ok());
    size.ok_or("a chunk's size is not a number")
}

#[cfg(test)]
mod tests;
