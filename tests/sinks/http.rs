//! A server of HTTP/1.1 whose every answer a test decides, byte for byte where it has to.

use std::{
    collections::HashMap,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use rustls::{
    ServerConfig, ServerConnection, StreamOwned,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};

use crate::process::harness::listener;

/// A request, its body unpacked.
pub struct Request {
    pub target: String,
    /// Names in lower case.
    pub headers: HashMap<String, String>,
    pub body: Vec<u8>,
}

/// A connection, plain or by TLS.
trait Connection: Read + Write + Send {}

impl<T: Read + Write + Send> Connection for T {}

/// What is answered.
pub enum Reply {
    /// A status with its words, more headers, and a body.
    Answer(&'static str, Vec<(&'static str, String)>, String),
    /// The connection is reset.
    Reset,
}

impl Reply {
    pub fn plain(status: &'static str, body: &str) -> Self {
        Self::Answer(status, Vec::new(), body.to_owned())
    }
}

/// Runs until it is dropped.
pub struct Http {
    pub addr: SocketAddr,
    over: Arc<AtomicBool>,
}

impl Http {
    /// Every request is given to `answer`.
    pub fn start(answer: impl Fn(Request) -> Reply + Send + Sync + 'static) -> Self {
        Self::start_with(None, answer)
    }

    /// The same over TLS, with a certificate and its key in PEM files.
    pub fn start_tls(chain: &Path, key: &Path, answer: impl Fn(Request) -> Reply + Send + Sync + 'static) -> Self {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let chain = CertificateDer::from_pem_file(chain).unwrap();
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![chain], PrivateKeyDer::from_pem_file(key).unwrap())
            .unwrap();
        Self::start_with(Some(Arc::new(config)), answer)
    }

    fn start_with(tls: Option<Arc<ServerConfig>>, answer: impl Fn(Request) -> Reply + Send + Sync + 'static) -> Self {
        let (listener, over) = (listener(), Arc::new(AtomicBool::new(false)));
        let addr = listener.local_addr().unwrap();
        let is_over = over.clone();
        thread::spawn(move || serve(&listener, tls.as_ref(), &Arc::new(answer), &is_over));
        Self { addr, over }
    }
}

impl Drop for Http {
    fn drop(&mut self) {
        self.over.store(true, Ordering::SeqCst);
        // Wakes the one that waits for connections.
        let _ = TcpStream::connect(self.addr);
    }
}

fn serve<F: Fn(Request) -> Reply + Send + Sync + 'static>(
    listener: &TcpListener,
    tls: Option<&Arc<ServerConfig>>,
    answer: &Arc<F>,
    over: &AtomicBool,
) {
    while let Ok((stream, _)) = listener.accept() {
        if over.load(Ordering::SeqCst) {
            return;
        }
        let answer = answer.clone();
        let plain = stream.try_clone().unwrap();
        let connection: Box<dyn Connection> = match tls {
            Some(config) => Box::new(StreamOwned::new(ServerConnection::new(config.clone()).unwrap(), stream)),
            None => Box::new(stream),
        };
        thread::spawn(move || {
            let mut reader = BufReader::new(connection);
            while let Some(request) = read(&mut reader) {
                match answer(request) {
                    Reply::Answer(status, headers, body) => {
                        let mut text = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n", body.len());
                        headers.iter().for_each(|(name, value)| text.push_str(&format!("{name}: {value}\r\n")));
                        text.push_str(&format!("\r\n{body}"));
                        if reader.get_mut().write_all(text.as_bytes()).and_then(|()| reader.get_mut().flush()).is_err()
                        {
                            return;
                        }
                    }
                    // What is unread when a socket is closed makes it a reset, but all of it was read: time zero does.
                    Reply::Reset => {
                        rustix::net::sockopt::set_socket_linger(&plain, Some(std::time::Duration::ZERO)).unwrap();
                        return;
                    }
                }
            }
        });
    }
}

fn read(reader: &mut impl BufRead) -> Option<Request> {
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|read| *read > 0)?;
    let target = line.split(' ').nth(1)?.to_owned();
    let mut headers = HashMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok().filter(|read| *read > 0)?;
        let Some((name, value)) = line.split_once(':') else { break };
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    let length = headers.get("content-length").map_or(0, |text| text.parse().unwrap());
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    if headers.get("content-encoding").is_some_and(|coding| coding == "gzip") {
        let mut plain = Vec::new();
        flate2::read::GzDecoder::new(&body[..]).read_to_end(&mut plain).unwrap();
        body = plain;
    }
    Some(Request { target, headers, body })
}
