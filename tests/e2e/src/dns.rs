//! A name server that answers as it is told, and whose names lead where a customer's could.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

/// Names, in lower case and without a final dot, and their addresses; a name that is not there does not exist.
#[derive(Debug)]
pub struct NameServer {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
}

const A: u16 = 1;
const AAAA: u16 = 28;
const CLASS_IN: u16 = 1;
/// RFC 1035 §4.1.1.
const HEADER_BYTES: usize = 12;
const NO_SUCH_NAME: u8 = 3;

impl NameServer {
    /// Serves until the process ends.
    ///
    /// # Panics
    /// If there is no free port.
    #[must_use]
    pub fn start(names: BTreeMap<String, Vec<IpAddr>>) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a free port");
        let address = socket.local_addr().expect("its own address");
        let asked = Arc::new(Mutex::new(Vec::new()));
        let noted = Arc::clone(&asked);
        thread::spawn(move || {
            let mut buffer = [0; 1_024];
            while let Ok((len, from)) = socket.recv_from(&mut buffer) {
                let Some((name, reply)) = answer(&buffer[..len], &names) else { continue };
                noted.lock().unwrap_or_else(PoisonError::into_inner).push(name);
                // Whoever asked may have gone.
                socket.send_to(&reply, from).ok();
            }
        });
        Self { address, asked }
    }

    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The names that were asked for.
    #[must_use]
    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// The name that a query asks for, and the reply to it. None if it is no query.
fn answer(query: &[u8], names: &BTreeMap<String, Vec<IpAddr>>) -> Option<(String, Vec<u8>)> {
    let mut labels = Vec::new();
    let mut at = HEADER_BYTES;
    loop {
        let len = usize::from(*query.get(at)?);
        at += 1;
        if len == 0 {
            break;
        }
        labels.push(String::from_utf8_lossy(query.get(at..at + len)?).to_ascii_lowercase());
        at += len;
    }
    let kind = u16::from_be_bytes(query.get(at..at + 2)?.try_into().ok()?);
    let question = query.get(HEADER_BYTES..at + 4)?;
    let name = labels.join(".");
    let found = names.get(&name);
    let records: Vec<Vec<u8>> =
        found.into_iter().flatten().filter_map(|address| record(kind, *address)).collect();
    let code = if found.is_some() { 0 } else { NO_SUCH_NAME };
    let mut reply = Vec::with_capacity(512);
    reply.extend_from_slice(&query[..2]);
    // A response, with recursion asked for and available.
    reply.extend_from_slice(&[0x81, 0x80 | code, 0, 1]);
    reply.extend_from_slice(&u16::try_from(records.len()).ok()?.to_be_bytes());
    reply.extend_from_slice(&[0; 4]);
    reply.extend_from_slice(question);
    reply.extend(records.into_iter().flatten());
    Some((name, reply))
}

fn record(kind: u16, address: IpAddr) -> Option<Vec<u8>> {
    let data = match address {
        IpAddr::V4(v4) if kind == A => v4.octets().to_vec(),
        IpAddr::V6(v6) if kind == AAAA => v6.octets().to_vec(),
        _ => return None,
    };
    // The question's name, by reference to its place.
    let mut record = vec![0xc0, 12];
    record.extend_from_slice(&kind.to_be_bytes());
    record.extend_from_slice(&CLASS_IN.to_be_bytes());
    record.extend_from_slice(&0_u32.to_be_bytes());
    record.extend_from_slice(&u16::try_from(data.len()).ok()?.to_be_bytes());
    record.extend(data);
    Some(record)
}
