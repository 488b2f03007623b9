//! A client of keychain-auth, without dependencies.
//!
//! ```no_run
//! let mut client = keychain_auth::Client::new()?;
//! let url = client.get("AgentSecrets", "proj_123:staging:DATABASE_URL")?; // None if there is none
//! # Ok::<(), keychain_auth::Error>(())
//! ```
//!
//! What it keeps (docs/protocol.md):
//! - The socket is opened close-on-exec (the standard library does so), by this process, at the first request.
//! - What the daemon refuses is [`Error::Rejected`] with its reason. No error holds a value.
//! - The daemon closes idle connections. The next request opens a new one; what changes nothing, or was not sent
//!   whole, is repeated once.
//! - Before anything is sent: who listens must be this user or root (SO_PEERCRED, on Linux), in a folder of the same
//!   owner that nobody else can write.
//!
//! Not promised: that values leave the memory of the program once they are read; anything for a process that forks.

mod json;
mod peer;

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{env, fmt};

pub use json::{parse, Json};

pub type Attributes = BTreeMap<String, String>;
type Result<T> = std::result::Result<T, Error>;

const NOT_RUNNING: &str = "keychain-auth daemon is not running. Start it with: keychain-auth start";

/// One result. A search has no values.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret {
    pub target: String,
    pub value: String,
    pub attributes: Attributes,
}

impl fmt::Debug for Secret {
    /// Without the value: debug output ends up in logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secret")
            .field("target", &self.target)
            .field("attributes", &self.attributes)
            .finish_non_exhaustive()
    }
}

/// What can go wrong.
#[derive(Debug)]
pub enum Error {
    /// Nothing listens.
    NotRunning,
    /// The daemon said no: the reason as in the protocol, and whether a policy said it.
    Rejected { reason: String, denied: bool },
    /// Something listens, and it is not this user's daemon, nor root's. Nothing was sent.
    Untrusted(PathBuf),
    /// The connection failed. A write or delete may have been done.
    Io(io::Error),
    /// The line is no answer of this protocol.
    BadAnswer,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::NotRunning => f.write_str(NOT_RUNNING),
            Error::Rejected { reason, .. } => write!(f, "Daemon rejected request: {reason}"),
            Error::Untrusted(path) => write!(f, "what listens on {} is not trusted", path.display()),
            Error::Io(error) => write!(f, "the connection to the keychain-auth daemon failed: {error}"),
            Error::BadAnswer => f.write_str("the answer is not one of the keychain-auth protocol"),
        }
    }
}

impl std::error::Error for Error {}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => Error::NotRunning,
            _ => Error::Io(error),
        }
    }
}

/// A request as the protocol has it. Fields that are empty are left out.
#[derive(Clone, Default)]
pub struct Request<'a> {
    pub action: &'a str,
    pub service: &'a str,
    pub prefix: bool,
    pub targets: &'a [&'a str],
    pub values: &'a [&'a str],
    pub attributes: Option<&'a Attributes>,
}

impl Request<'_> {
    /// Its line, with the newline.
    pub fn encode(&self) -> String {
        let mut line = String::from(r#"{"type":"REQUEST","action":"#);
        json::push_string(&mut line, self.action);
        line.push_str(r#","service":"#);
        json::push_string(&mut line, self.service);
        if self.prefix {
            line.push_str(r#","match":"prefix""#);
        }
        for (name, texts) in [("targets", self.targets), ("values", self.values)] {
            if !texts.is_empty() {
                line.push_str(&format!(",\"{name}\":["));
                json::push_list(&mut line, texts.iter(), |line, text| json::push_string(line, text));
                line.push(']');
            }
        }
        if let Some(attributes) = self.attributes.filter(|pairs| !pairs.is_empty()) {
            line.push_str(r#","attributes":{"#);
            json::push_list(&mut line, attributes.iter(), |line, (name, text)| {
                json::push_string(line, name);
                line.push(':');
                json::push_string(line, text);
            });
            line.push('}');
        }
        line.push_str("}\n");
        line
    }
}

/// A connection to the daemon, opened when it is needed.
pub struct Client {
    path: PathBuf,
    timeout: Duration,
    connection: Option<BufReader<UnixStream>>,
}

impl Client {
    /// Of the daemon at `$KEYCHAIN_AUTH_SOCKET`, or else the user's, or else the machine's.
    pub fn new() -> Result<Self> {
        Ok(Self::at(socket_path().ok_or(Error::NotRunning)?))
    }

    /// Of the daemon that listens at `path`.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Client { path: path.into(), timeout: Duration::from_secs(30), connection: None }
    }

    /// How long one wait for the daemon may last.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// The value of one secret.
    pub fn get(&mut self, service: &str, target: &str) -> Result<Option<String>> {
        Ok(self.read(service, &[target])?.into_iter().next().map(|found| found.value))
    }

    /// The secrets of these names, in their order. What does not exist is left out.
    pub fn read(&mut self, service: &str, targets: &[&str]) -> Result<Vec<Secret>> {
        self.send(&Request { action: "read", service, targets, ..Request::default() })
    }

    /// The secrets whose names begin with one of the prefixes, sorted.
    pub fn read_prefix(&mut self, service: &str, prefixes: &[&str]) -> Result<Vec<Secret>> {
        self.send(&Request { action: "read", service, prefix: true, targets: prefixes, ..Request::default() })
    }

    /// Names and attributes, sorted; of the whole service if there are no prefixes.
    pub fn search(&mut self, service: &str, prefixes: &[&str]) -> Result<Vec<Secret>> {
        self.send(&Request { action: "search", service, targets: prefixes, ..Request::default() })
    }

    /// Store pairs of target and value in one transaction, each with these attributes.
    pub fn write(&mut self, service: &str, values: &[(&str, &str)], attributes: Option<&Attributes>) -> Result<()> {
        let (targets, values): (Vec<&str>, Vec<&str>) = values.iter().copied().unzip();
        let request =
            Request { action: "write", service, prefix: false, targets: &targets, values: &values, attributes };
        self.send(&request).map(drop)
    }

    /// Remove secrets in one transaction. What does not exist is no error.
    pub fn delete(&mut self, service: &str, targets: &[&str]) -> Result<()> {
        self.send(&Request { action: "delete", service, targets, ..Request::default() }).map(drop)
    }

    /// Is this program allowed to read, write and search the service?
    pub fn check(&mut self, service: &str) -> Result<()> {
        self.send(&Request { action: "check", service, ..Request::default() }).map(drop)
    }

    /// Send a request; its results.
    pub fn send(&mut self, request: &Request<'_>) -> Result<Vec<Secret>> {
        let line = request.encode();
        let reused = self.connection.is_some();
        let (answer, sent) = self.exchange(&line);
        // A line that was not sent whole is never executed.
        let repeatable = reused && (!sent || !matches!(request.action, "write" | "delete"));
        let answer = match answer {
            Err(Error::Io(error)) if repeatable && !timed_out(&error) => self.exchange(&line).0?,
            answer => answer?,
        };
        let found = results(&answer);
        if let Err(Error::BadAnswer) = found {
            self.connection = None; // whatever comes next on it is nobody's answer
        }
        found
    }

    /// Send the line and read its answer; and whether all of the line went out.
    fn exchange(&mut self, line: &str) -> (Result<Vec<u8>>, bool) {
        let mut connection = match self.connection.take() {
            Some(open) => open,
            None => match connect(&self.path, self.timeout) {
                Ok(fresh) => BufReader::new(fresh),
                Err(error) => return (Err(error), false),
            },
        };
        // The daemon may refuse before it has read everything: its answer can be read all the same.
        let unsent = connection.get_mut().write_all(line.as_bytes()).err();
        let sent = unsent.is_none();
        let mut answer = Vec::new();
        let problem = match connection.read_until(b'\n', &mut answer) {
            Ok(_) if answer.last() == Some(&b'\n') => {
                self.connection = Some(connection); // only now: the rest of an answer must never meet the next request
                return (Ok(answer), sent);
            }
            Ok(_) => io::ErrorKind::UnexpectedEof.into(),
            Err(error) => error,
        };
        (Err(Error::Io(unsent.unwrap_or(problem))), sent)
    }
}

fn timed_out(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

fn connect(path: &Path, timeout: Duration) -> Result<UnixStream> {
    let stream = UnixStream::connect(path)?;
    stream.set_read_timeout(Some(timeout))?;
    stream.set_write_timeout(Some(timeout))?;
    if peer::is_trusted(&stream, path)? {
        Ok(stream)
    } else {
        Err(Error::Untrusted(path.to_owned()))
    }
}

fn results(line: &[u8]) -> Result<Vec<Secret>> {
    let text = std::str::from_utf8(line).map_err(|_| Error::BadAnswer)?;
    let answer = json::parse(text).ok_or(Error::BadAnswer)?;
    match (answer.text("type"), answer.text("status")) {
        (Some("RESPONSE"), Some("success")) => {}
        (Some("RESPONSE"), Some(status)) => {
            let reason = answer.text("reason").unwrap_or("unknown").to_owned();
            return Err(Error::Rejected { reason, denied: status == "denied" });
        }
        _ => return Err(Error::BadAnswer),
    }
    let Some(Json::List(found)) = answer.get("results") else { return Ok(Vec::new()) };
    found.iter().map(secret).collect::<Option<_>>().ok_or(Error::BadAnswer)
}

fn secret(result: &Json) -> Option<Secret> {
    let attributes = match result.get("attributes") {
        Some(Json::Object(pairs)) => pairs
            .iter()
            .map(|(name, value)| Some((name.clone(), value.as_text()?.to_owned())))
            .collect::<Option<_>>()?,
        _ => Attributes::new(),
    };
    let value = result.text("value").unwrap_or_default().to_owned();
    Some(Secret { target: result.text("target")?.to_owned(), value, attributes })
}

fn socket_path() -> Option<PathBuf> {
    if let Some(chosen) = env::var_os("KEYCHAIN_AUTH_SOCKET").filter(|path| !path.is_empty()) {
        return Some(env::current_dir().ok()?.join(chosen));
    }
    let runtime = env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|path| path.is_absolute());
    let home = env::var_os("HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    let below_home = if cfg!(target_os = "macos") { "Library/Application Support" } else { ".cache" };
    let folder =
        if cfg!(target_os = "macos") { None } else { runtime }.or_else(|| home.map(|home| home.join(below_home)))?;
    let own = folder.join("keychain-auth/agent.sock");
    let system = PathBuf::from("/run/keychain-auth/agent.sock");
    Some(if !own.exists() && system.exists() { system } else { own })
}
