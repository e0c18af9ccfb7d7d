//! Client and server on rustls; the commands are those of peer.h.
use rustls::server::{AllowAnyAnonymousOrAuthenticatedClient, AllowAnyAuthenticatedClient};
use rustls::{Certificate, ClientConfig, ClientConnection, PrivateKey, RootCertStore, ServerConfig, ServerConnection, Stream};
use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

fn say(words: &[&str]) {
    let clean: Vec<String> = words.iter().map(|w| w.replace('\t', " ").replace('\n', " ")).collect();
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}", clean.join("\t")).unwrap();
    out.flush().unwrap();
}

fn chain(keys: &str, name: &str) -> Result<Vec<Certificate>, String> {
    let mut file = BufReader::new(File::open(format!("{keys}/{name}.pem")).map_err(|e| e.to_string())?);
    Ok(rustls_pemfile::certs(&mut file).map_err(|e| e.to_string())?.into_iter().map(Certificate).collect())
}

fn key(keys: &str, name: &str) -> Result<PrivateKey, String> {
    let mut file = BufReader::new(File::open(format!("{keys}/{name}.key")).map_err(|e| e.to_string())?);
    use rustls_pemfile::Item::*;
    match rustls_pemfile::read_one(&mut file).map_err(|e| e.to_string())? {
        Some(RSAKey(der)) | Some(PKCS8Key(der)) | Some(ECKey(der)) => Ok(PrivateKey(der)),
        _ => Err("no key in the file".into()),
    }
}

fn roots(keys: &str) -> Result<RootCertStore, String> {
    let mut store = RootCertStore::empty();
    for each in chain(keys, "ca")? {
        store.add(&each).map_err(|e| e.to_string())?;
    }
    Ok(store)
}

fn versions(version: &str) -> Vec<&'static rustls::SupportedProtocolVersion> {
    vec![if version == "1.3" { &rustls::version::TLS13 } else { &rustls::version::TLS12 }]
}

fn word(version: Option<rustls::ProtocolVersion>) -> &'static str {
    match version {
        Some(rustls::ProtocolVersion::TLSv1_3) => "TLSv1.3",
        Some(rustls::ProtocolVersion::TLSv1_2) => "TLSv1.2",
        _ => "-",
    }
}

fn server_config(keys: &str, version: &str, mode: &str, hrr: bool) -> Result<ServerConfig, String> {
    let groups: Vec<&'static rustls::SupportedKxGroup> =
        if hrr { vec![&rustls::kx_group::SECP384R1] } else { rustls::ALL_KX_GROUPS.to_vec() };
    let made = ServerConfig::builder()
        .with_safe_default_cipher_suites()
        .with_kx_groups(&groups)
        .with_protocol_versions(&versions(version))
        .map_err(|e| e.to_string())?;
    let made = match mode {
        "optional" => made.with_client_cert_verifier(AllowAnyAnonymousOrAuthenticatedClient::new(roots(keys)?)),
        "required" => made.with_client_cert_verifier(AllowAnyAuthenticatedClient::new(roots(keys)?)),
        _ => made.with_no_client_auth(),
    };
    let mut made = made.with_single_cert(chain(keys, "server")?, key(keys, "server")?).map_err(|e| e.to_string())?;
    made.ticketer = rustls::Ticketer::new().map_err(|e| e.to_string())?;
    Ok(made)
}

/// A session that resumes asks for no certificate verification: the only sign that this version gives to a server.
fn serve(config: Arc<ServerConfig>, mut socket: TcpStream) {
    let host = socket.local_addr().unwrap().ip().to_string();
    socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let mut conn = ServerConnection::new(config).unwrap();
    while conn.is_handshaking() {
        if let Err(error) = conn.complete_io(&mut socket) {
            let _ = conn.write_tls(&mut socket);
            say(&["server", &host, "-", "0", "-", "refused", &error.to_string()]);
            return;
        }
    }
    let version = word(conn.protocol_version());
    let subject = if conn.peer_certificates().map_or(false, |c| !c.is_empty()) { "a certificate" } else { "-" };
    let (mut rounds, mut says) = (0, String::new());
    let mut got: Vec<u8> = Vec::new();
    let mut buf = vec![0u8; 17000];
    loop {
        match Stream::new(&mut conn, &mut socket).read(&mut buf) {
            Ok(0) => break,
            Ok(n) => got.extend_from_slice(&buf[..n]),
            Err(error) => {
                says = error.to_string();
                break;
            }
        }
        if !got.ends_with(b"\r\n\r\n") {
            continue;
        }
        let body = got.len() * 7 % 900 + 2;
        let reply = format!("HTTP/1.1 200 OK\r\nContent-Length: {body}\r\n\r\n{}", "o".repeat(body));
        if Stream::new(&mut conn, &mut socket).write_all(reply.as_bytes()).is_err() {
            break;
        }
        let _ = Stream::new(&mut conn, &mut socket).flush();
        rounds += 1;
        if String::from_utf8_lossy(&got).contains("Connection: close") {
            break;
        }
        got.clear();
    }
    conn.send_close_notify();
    let _ = conn.write_tls(&mut socket);
    let ok = rounds > 0;
    say(&["server", &host, version, "0", subject, if ok { "ok" } else { "refused" }, if ok { "" } else { &says }]);
}

fn listen(keys: &str, port: &str, version: &str, mode: &str, hrr: bool) {
    match server_config(keys, version, mode, hrr) {
        Err(error) => say(&["cannot", port, &error]),
        Ok(config) => {
            let (config, listener) = (Arc::new(config), TcpListener::bind(format!("0.0.0.0:{port}")).unwrap());
            std::thread::spawn(move || {
                for socket in listener.incoming().flatten() {
                    serve(config.clone(), socket);
                }
            });
            say(&["ready", port]);
        }
    }
}

fn client_config(keys: &str, version: &str, cert: &str) -> Result<ClientConfig, String> {
    let made = ClientConfig::builder()
        .with_safe_default_cipher_suites()
        .with_safe_default_kx_groups()
        .with_protocol_versions(&versions(version))
        .map_err(|e| e.to_string())?
        .with_root_certificates(roots(keys)?);
    if cert == "-" {
        return Ok(made.with_no_client_auth());
    }
    made.with_single_cert(chain(keys, cert)?, key(keys, cert)?).map_err(|e| e.to_string())
}

fn connect(config: Arc<ClientConfig>, host: &str, port: &str, rounds: usize, size: usize, close_first: bool) {
    let mut socket = TcpStream::connect(format!("{host}:{port}")).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let mut conn = ClientConnection::new(config, "server.example".try_into().unwrap()).unwrap();
    let mut run = |conn: &mut ClientConnection| -> Result<(), std::io::Error> {
        while conn.is_handshaking() {
            conn.complete_io(&mut socket)?;
        }
        let mut buf = vec![0u8; 17000];
        for i in 0..rounds {
            let mut head = String::from("GET / HTTP/1.1\r\nHost: server.example\r\n");
            if close_first && i == rounds - 1 {
                head += "Connection: close\r\n";
            }
            head += "X-Pad: ";
            head += &"x".repeat(size.saturating_sub(4 + head.len()));
            head += "\r\n\r\n";
            let mut stream = Stream::new(conn, &mut socket);
            stream.write_all(head.as_bytes())?;
            stream.flush()?;
            if stream.read(&mut buf)? == 0 {
                return Err(std::io::Error::new(std::io::ErrorKind::UnexpectedEof, "connection ended"));
            }
        }
        if close_first {
            let _ = Stream::new(conn, &mut socket).read(&mut buf);
        }
        conn.send_close_notify();
        let _ = conn.write_tls(&mut socket);
        Ok(())
    };
    let ended = run(&mut conn);
    let _ = conn.write_tls(&mut socket);
    let version = word(conn.protocol_version());
    match ended {
        Ok(()) => say(&["client", version, "0", "ok", ""]),
        Err(error) => say(&["client", version, "0", "refused", &error.to_string()]),
    }
}

fn main() {
    let keys = std::env::args().nth(1).unwrap();
    let mut slots: HashMap<String, Arc<ClientConfig>> = HashMap::new();
    for line in std::io::stdin().lock().lines().flatten() {
        let w: Vec<&str> = line.split('\t').collect();
        if w[0] == "listen" {
            listen(&keys, w[1], w[2], w[3], w[4] == "1");
        }
        if w[0] == "connect" {
            let made = match slots.get(w[5]) {
                Some(kept) => Ok(kept.clone()),
                None => client_config(&keys, w[3], w[4]).map(Arc::new),
            };
            match made {
                Err(error) => say(&["client", "-", "0", "cannot", &error]),
                Ok(config) => {
                    if w[5] != "-" {
                        slots.insert(w[5].into(), config.clone());
                    }
                    connect(config, w[1], w[2], w[6].parse().unwrap(), w[7].parse().unwrap(), w[8] == "1");
                }
            }
        }
    }
}
