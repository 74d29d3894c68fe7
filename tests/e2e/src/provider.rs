//! Somebody with whom people sign in: a small OpenID provider, whose one user has signed in there already.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use rcgen::{KeyPair, PKCS_ED25519, PublicKeyData as _, SigningKey as _};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

/// How the provider knows the console.
pub const CLIENT_ID: &str = "console of the tests";
pub const CLIENT_SECRET: &str = "a secret: of the console's";

type Parameters = BTreeMap<String, String>;

/// A provider. It serves until the process ends.
#[derive(Debug)]
pub struct Provider {
    address: SocketAddr,
    state: Arc<State>,
}

#[derive(Debug)]
struct State {
    key: KeyPair,
    issuer: String,
    does: Mutex<Does>,
    /// What was asked for, by the code that was given.
    codes: Mutex<BTreeMap<String, Parameters>>,
    /// Why codes were refused.
    complaints: Mutex<Vec<String>>,
}

#[derive(Debug)]
struct Does {
    /// Of the user, in every ID token.
    claims: Value,
    /// The user does not agree.
    refuses: bool,
}

impl Provider {
    /// Starts one.
    ///
    /// # Panics
    /// If the machine has no port left.
    #[must_use]
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("its own address");
        let key = KeyPair::generate_for(&PKCS_ED25519).expect("a key");
        let does = Mutex::new(Does { claims: json!({}), refuses: false });
        // Not 127.0.0.1, where the console is: for a browser it is another site.
        let issuer = format!("http://localhost:{}", address.port());
        let state =
            Arc::new(State { key, issuer, does, codes: Mutex::default(), complaints: Mutex::default() });
        let serving = Arc::clone(&state);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let state = Arc::clone(&serving);
                // A browser keeps connections that it may need.
                thread::spawn(move || state.serve(stream));
            }
        });
        Self { address, state }
    }

    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    #[must_use]
    pub fn issuer(&self) -> &str {
        &self.state.issuer
    }

    /// The URL of a path, as our own programs reach it.
    #[must_use]
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// From now on the user is this one: the ID token's claims besides those that every token has.
    pub fn user(&self, claims: Value) {
        *lock(&self.state.does) = Does { claims, refuses: false };
    }

    /// From now on the user does not agree.
    pub fn refuse(&self) {
        lock(&self.state.does).refuses = true;
    }

    /// What was wrong with requests for tokens.
    #[must_use]
    pub fn complaints(&self) -> Vec<String> {
        lock(&self.state.complaints).clone()
    }
}

impl State {
    fn serve(&self, stream: TcpStream) -> Option<()> {
        let mut reader = BufReader::new(stream.try_clone().ok()?);
        let mut line = || {
            let mut line = String::new();
            reader.read_line(&mut line).ok().map(|_| line.trim_end().to_owned())
        };
        let request = line()?;
        let target = request.split(' ').nth(1)?.to_owned();
        let mut headers = BTreeMap::new();
        while let Some((name, value)) = line()?.split_once(':') {
            headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
        }
        let length = headers.get("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
        let mut body = String::new();
        reader.take(length).read_to_string(&mut body).ok()?;
        let (path, query) = target.split_once('?').unwrap_or((&target, ""));
        let (status, header, body) = match path {
            "/jwks" => (200, String::new(), self.jwks()),
            "/authorize" => {
                (302, format!("location: {}\r\n", self.authorize(parameters(query))), json!(null))
            }
            "/token" => match self.token(headers.get("authorization"), &parameters(&body)) {
                Ok(answer) => (200, String::new(), answer),
                Err(complaint) => {
                    lock(&self.complaints).push(complaint);
                    (400, String::new(), json!({ "error": "invalid_grant" }))
                }
            },
            _ => (404, String::new(), json!(null)),
        };
        let body = body.to_string();
        let head = format!(
            "HTTP/1.1 {status} X\r\n{header}content-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
            body.len()
        );
        (&stream).write_all(format!("{head}{body}").as_bytes()).ok()
    }

    fn jwks(&self) -> Value {
        let x = URL_SAFE_NO_PAD.encode(self.key.der_bytes());
        json!({ "keys": [{ "kty": "OKP", "crv": "Ed25519", "kid": "one", "use": "sig", "x": x }] })
    }

    /// Where the user is sent back to (OpenID Connect Core §3.1.2).
    fn authorize(&self, asked: Parameters) -> String {
        let [back, state] =
            ["redirect_uri", "state"].map(|name| asked.get(name).cloned().unwrap_or_default());
        let state = encoded(&state);
        if lock(&self.does).refuses {
            return format!("{back}?error=access_denied&state={state}");
        }
        let mut codes = lock(&self.codes);
        let code = format!("code {}", codes.len());
        let location = format!("{back}?code={}&state={state}&iss={}", encoded(&code), encoded(&self.issuer));
        codes.insert(code, asked);
        location
    }

    /// An ID token for a code, once (OpenID Connect Core §3.1.3, RFC 7636 §4.6).
    fn token(&self, authorization: Option<&String>, form: &Parameters) -> Result<Value, String> {
        let is = |what: &str, found: Option<&String>, expected: &str| {
            let found = found.map(String::as_str);
            if found == Some(expected) { Ok(()) } else { Err(format!("{what}: {found:?}, not `{expected}`")) }
        };
        let basic = STANDARD.encode(format!("{}:{}", encoded(CLIENT_ID), encoded(CLIENT_SECRET)));
        is("authorization", authorization, &format!("Basic {basic}"))?;
        is("grant_type", form.get("grant_type"), "authorization_code")?;
        let code = form.get("code").ok_or("no code")?;
        let asked = lock(&self.codes).get_mut(code).map(std::mem::take).unwrap_or_default();
        if asked.is_empty() {
            return Err("an unknown code, or a used one".to_owned());
        }
        is("response_type", asked.get("response_type"), "code")?;
        is("client_id", asked.get("client_id"), CLIENT_ID)?;
        is("code_challenge_method", asked.get("code_challenge_method"), "S256")?;
        let challenge = form.get("code_verifier").map(|it| URL_SAFE_NO_PAD.encode(Sha256::digest(it)));
        is("code_challenge", asked.get("code_challenge"), &challenge.unwrap_or_default())?;
        is("redirect_uri", form.get("redirect_uri"), asked.get("redirect_uri").map_or("", String::as_str))?;
        let nonce = asked.get("nonce").ok_or("no nonce")?;
        Ok(
            json!({ "access_token": "of no use here", "token_type": "Bearer", "id_token": self.id_token(nonce) }),
        )
    }

    fn id_token(&self, nonce: &str) -> String {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is past 1970").as_secs();
        let mut claims =
            json!({ "iss": self.issuer, "aud": CLIENT_ID, "nonce": nonce, "iat": now, "exp": now + 300 });
        for (name, value) in lock(&self.does).claims.as_object().into_iter().flatten() {
            claims[name] = value.clone();
        }
        let header = json!({ "alg": "EdDSA", "kid": "one" });
        let [header, claims] = [header, claims].map(|part| URL_SAFE_NO_PAD.encode(part.to_string()));
        let signed = format!("{header}.{claims}");
        let signature = self.key.sign(signed.as_bytes()).expect("a key that signs");
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// `application/x-www-form-urlencoded`
fn parameters(text: &str) -> Parameters {
    let pairs = text.split('&').filter_map(|pair| pair.split_once('='));
    pairs.map(|(name, value)| (decoded(name), decoded(value))).collect()
}

fn decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let digits = [rest.next(), rest.next()].map(|digit| char::from(digit.unwrap_or(b'0')));
                u8::from_str_radix(&String::from_iter(digits), 16).unwrap_or(b'?')
            }
            byte => byte,
        });
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn encoded(text: &str) -> String {
    text.bytes().fold(String::new(), |mut out, byte| {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'*' => out.push(char::from(byte)),
            b' ' => out.push('+'),
            byte => out.push_str(&format!("%{byte:02X}")),
        }
        out
    })
}
