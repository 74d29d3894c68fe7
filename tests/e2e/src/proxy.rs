//! A broker's front door that opens when the test says so.

use std::io;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::thread;

use crate::service::free_address;

/// An address at which, until [`Proxy::open`], nobody listens.
#[derive(Debug)]
pub struct Proxy {
    addr: SocketAddr,
}

impl Proxy {
    /// # Panics
    /// If the machine has no port left.
    #[must_use]
    pub fn closed() -> Self {
        Self { addr: free_address() }
    }

    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// From now on, and as long as the process lives, connections are passed on to `target`.
    ///
    /// # Panics
    /// If somebody has taken the port meanwhile.
    pub fn open(&self, target: SocketAddr) {
        let listener = TcpListener::bind(self.addr).expect("the port is still free");
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let Ok(server) = TcpStream::connect(target) else { continue };
                let (Ok(from_client), Ok(from_server)) = (client.try_clone(), server.try_clone()) else {
                    continue;
                };
                thread::spawn(move || pass(from_client, server));
                thread::spawn(move || pass(from_server, client));
            }
        });
    }
}

fn pass(mut from: TcpStream, mut to: TcpStream) {
    // Either side's end is the end.
    io::copy(&mut from, &mut to).ok();
    to.shutdown(Shutdown::Both).ok();
}
