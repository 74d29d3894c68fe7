use proptest::prelude::*;

use super::*;

const HOST: &str = "POST / HTTP/1.1\r\nHost: x\r\n";

#[track_caller]
fn refused(rest: &str, problem: &str) {
    let text = format!("{HOST}{rest}");
    let whole = Framing::default().feed(text.as_bytes()).unwrap_err();
    assert_eq!(whole.problem, problem, "{rest:?}");
    // Byte by byte the fault stands at the same place.
    let mut framing = Framing::default();
    let at = text.bytes().position(|byte| framing.feed(&[byte]).is_err());
    assert_eq!(at, Some(whole.at), "{rest:?}");
    assert!(framing.feed(b"x").is_err());
}

#[test]
fn lines() {
    refused("A: b\n", "a line ends without CR");
    refused("A: b\rC: d\r\n", "a CR is followed by something else than LF");
    refused("A: b\r\n c\r\n", "a line begins with a space");
    refused("A: b\r\n\tc\r\n", "a line begins with a space");
    refused("A: b\0\r\n", "a control character");
    refused("A: b\x7f\r\n", "a control character");
    refused("A : b\r\n", "a header's name is not a token");
    refused("A\r\n", "a header without a colon");
    refused(": b\r\n", "a header's name is not a token");
    refused(&format!("A: {}", "x".repeat(MAX_LINE)), "a line is too long");
    assert!(Framing::default().feed(b"\nGET").is_err());
    assert!(Framing::default().feed(b"GET / HTTP/1.1\n").is_err());
}

#[test]
fn hosts_and_lengths() {
    refused("Host: y\r\n", "two `Host`s");
    for bad in ["+5", "-1", "0x5", "5, 5", "5 5", "", "1e1", "9999999999999999999", "٥"] {
        refused(&format!("Content-Length: {bad}\r\n"), "a `Content-Length` that is not a number");
    }
    refused("Content-Length: 5\r\ncontent-length: 5\r\n", "two `Content-Length`s");
    let both = "both `Content-Length` and `Transfer-Encoding`";
    refused("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", both);
    refused("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", both);
    let coding = "a `Transfer-Encoding` other than one `chunked`";
    for bad in ["identity", "gzip, chunked", "chunked, chunked", "xchunked", "chunked;a=b", "\"chunked\"", ""]
    {
        refused(&format!("Transfer-Encoding: {bad}\r\n"), coding);
    }
    refused("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", coding);
    assert_eq!(Framing::default().feed(b"GET / HTTP/1.1\r\n\r\n").unwrap_err().problem, "no `Host`");
    assert_eq!(Framing::default().feed(b"GET / HTTP/1.0\r\n\r\n"), Ok(()));
    let chunked_1_0 = b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n";
    assert_eq!(Framing::default().feed(chunked_1_0).unwrap_err().problem, coding);
}

#[test]
fn chunks() {
    let refused = |rest: &str, problem: &str| {
        refused(&format!("Transfer-Encoding: chunked\r\n\r\n{rest}"), problem);
    };
    for bad in ["\r\n", "x\r\n", "+1\r\n", "0x1\r\n", "1 \r\n", ";a\r\n", "1111111111111111\r\n"] {
        refused(bad, "a chunk's size is not a number");
    }
    refused("1\n", "a line ends without CR");
    refused("1\r\nab\r\n", "a chunk is longer than its size");
    refused("1\r\na\n", "a line ends without CR");
    refused(&format!("1;{}", "x".repeat(MAX_CHUNK_LINE)), "a line is too long");
    refused("0\r\nA\r\n", "a header without a colon");
    refused("0\r\nA: b\n", "a line ends without CR");
}

proptest! {
    /// Well-framed requests pass, however they are cut, and bodies may hold anything.
    #[test]
    fn good_requests_pass(
        bodies in proptest::collection::vec((any::<bool>(), proptest::collection::vec(any::<u8>(), 0..40)), 1..5),
        cut in 1usize..30,
    ) {
        let mut bytes = Vec::new();
        for (is_chunked, body) in &bodies {
            bytes.extend_from_slice(HOST.as_bytes());
            if *is_chunked {
                bytes.extend_from_slice(b"Transfer-Encoding: Chunked\r\n\r\n");
                for chunk in body.chunks(7) {
                    bytes.extend_from_slice(format!("{:X};ext=\"a\"\r\n", chunk.len()).as_bytes());
                    bytes.extend_from_slice(chunk);
                    bytes.extend_from_slice(b"\r\n");
                }
                bytes.extend_from_slice(b"0\r\nTrailer: a\r\n\r\n\r\n");
            } else {
                bytes.extend_from_slice(format!("Content-Length:{}\r\n\r\n", body.len()).as_bytes());
                bytes.extend_from_slice(body);
            }
        }
        let mut framing = Framing::default();
        for piece in bytes.chunks(cut) {
            prop_assert_eq!(framing.feed(piece), Ok(()));
        }
        prop_assert_eq!(framing.state, State::RequestLine);
    }

    /// Anything at all is read or refused at a place within it.
    #[test]
    fn anything_goes(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        if let Err(misframed) = Framing::default().feed(&bytes) {
            prop_assert!(misframed.at < bytes.len());
        }
    }
}
