//! A web server for one file on the loopback interface, with a script of replies.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

/// How one request is answered.
#[derive(Clone, Copy)]
pub(super) enum Reply {
    /// The file, or the range asked for.
    Whole,
    /// As much as this, then the connection is closed.
    CutAfter(usize),
    /// The whole file, whatever range is asked for.
    IgnoringRange,
    /// The whole file in chunks, without a length.
    Chunked,
    /// An error without a body.
    Status(u16),
}

/// Answers as many requests as it has replies, one connection each; the port is closed when it is dropped.
pub(super) struct Server {
    address: SocketAddr,
    requests: Arc<Mutex<Vec<String>>>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    pub(super) fn start(file: &[u8], replies: Vec<Reply>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (file, log) = (file.to_vec(), Arc::clone(&requests));
        let thread = std::thread::spawn(move || {
            for reply in replies {
                let (stream, _) = listener.accept().unwrap();
                stream
                    .set_read_timeout(Some(Duration::from_secs(10)))
                    .unwrap();
                stream
                    .set_write_timeout(Some(Duration::from_secs(10)))
                    .unwrap();
                // A client may hang up early, and dropping the server connects without a request.
                let _ = answer(stream, &file, reply, &log);
            }
        });
        Self {
            address,
            requests,
            thread: Some(thread),
        }
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}/base", self.address)
    }

    /// Method, path and range of each request so far.
    pub(super) fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let Some(thread) = self.thread.take() else {
            return;
        };
        while !thread.is_finished() {
            // Uses up a reply that no request came for.
            let _ = TcpStream::connect(self.address);
        }
        let finished = thread.join();
        if !std::thread::panicking() {
            finished.unwrap();
        }
    }
}

fn answer(
    mut stream: TcpStream,
    file: &[u8],
    reply: Reply,
    log: &Mutex<Vec<String>>,
) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    let Some(first) = lines.next().transpose()? else {
        return Ok(());
    };
    let mut request = first.trim_end_matches(" HTTP/1.1").to_owned();
    let mut start = None;
    for line in lines {
        let line = line?.to_ascii_lowercase();
        if line.is_empty() {
            break;
        }
        if let Some(range) = line.strip_prefix("range: ") {
            request = format!("{request} {range}");
            start = range
                .trim_start_matches("bytes=")
                .trim_end_matches('-')
                .parse::<usize>()
                .ok();
        }
    }
    log.lock().unwrap().push(request);

    let size = file.len();
    let (status, start) = match (reply, start) {
        (Reply::Status(status), _) => (status, size),
        (Reply::Whole | Reply::CutAfter(_), Some(start)) if start < size => (206, start),
        (Reply::Whole | Reply::CutAfter(_), Some(_)) => (416, size),
        _ => (200, 0),
    };
    let body = &file[start..];
    let mut head = format!(
        "HTTP/1.1 {status} {}\r\nConnection: close\r\n",
        reason(status)
    );
    if status == 206 {
        head += &format!("Content-Range: bytes {start}-{}/{size}\r\n", size - 1);
    }
    if matches!(reply, Reply::Chunked) {
        stream.write_all(format!("{head}Transfer-Encoding: chunked\r\n\r\n").as_bytes())?;
        for chunk in body.chunks(777) {
            stream.write_all(format!("{:x}\r\n", chunk.len()).as_bytes())?;
            stream.write_all(chunk)?;
            stream.write_all(b"\r\n")?;
        }
        return stream.write_all(b"0\r\n\r\n");
    }
    stream.write_all(format!("{head}Content-Length: {}\r\n\r\n", body.len()).as_bytes())?;
    match reply {
        Reply::CutAfter(len) => stream.write_all(&body[..len]),
        _ => stream.write_all(body),
    }
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        206 => "Partial Content",
        404 => "Not Found",
        416 => "Range Not Satisfiable",
        429 => "Too Many Requests",
        _ => "Service Unavailable",
    }
}
