//! One file from one address, with resume and retries.

use std::io::Read;
use std::time::Duration;

use ureq::http::{Response, StatusCode, header};
use ureq::{Agent, Body};

use super::manifest::Archive;
use super::part::Part;
use super::{DownloadOptions, Event, Progress};
use crate::error::DataError;

const MAX_PAUSE: Duration = Duration::from_secs(60);

/// How a transfer ended; local trouble is an error instead.
pub(super) enum Fetched {
    /// All bytes are there; `resumed` if some of them were there before this call.
    Complete { resumed: bool },
    /// This address will not do.
    Failed { reason: String },
}

/// Why one connection did not deliver the rest of the file.
enum Broken {
    /// Trying again may help.
    Retry(String),
    /// Trying again will not help.
    Permanent(String),
    /// This machine is at fault.
    Local(DataError),
}

pub(super) struct Client {
    agent: Agent,
}

impl Client {
    pub(super) fn new(options: &DownloadOptions) -> Self {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .timeout_resolve(Some(options.timeout))
            .timeout_connect(Some(options.timeout))
            .timeout_recv_response(Some(options.timeout))
            .timeout_per_read(Some(options.timeout))
            .user_agent(concat!("addernet/", env!("CARGO_PKG_VERSION")))
            .build();
        Self {
            agent: config.into(),
        }
    }

    /// Continues `part` until it has the archive's size; adds the bytes that arrive to `received`.
    pub(super) fn fetch(
        &self,
        url: &str,
        archive: &Archive,
        part: &mut Part,
        options: &DownloadOptions,
        progress: &mut dyn Progress,
        received: &mut u64,
    ) -> Result<Fetched, DataError> {
        let name = archive.name.as_str();
        let have = part.len()?;
        let mut transfer = Transfer {
            part,
            archive,
            progress,
            received,
            have,
        };
        if have > archive.size {
            transfer.restart()?;
        }
        let resumed = transfer.have > 0;
        let started = Event::Started {
            file: name,
            total: archive.size,
            resumed_from: transfer.have,
        };
        transfer.progress.event(started);

        let mut best = transfer.have;
        let mut attempts = 0;
        while transfer.have < archive.size {
            let outcome = self.connection(url, &mut transfer);
            // A server without ranges starts over each time: only a new maximum is progress.
            if transfer.have > best {
                best = transfer.have;
                attempts = 0;
            }
            let reason = match outcome {
                Ok(()) => continue,
                Err(Broken::Local(error)) => return Err(error),
                Err(Broken::Permanent(reason)) => return Ok(Fetched::Failed { reason }),
                Err(Broken::Retry(reason)) => reason,
            };
            if attempts >= options.retries {
                return Ok(Fetched::Failed { reason });
            }
            transfer.progress.event(Event::Retrying {
                file: name,
                reason: &reason,
            });
            let pause = options.retry_pause.saturating_mul(1 << attempts.min(16));
            std::thread::sleep(pause.min(MAX_PAUSE));
            attempts += 1;
        }
        part.sync()?;
        Ok(Fetched::Complete { resumed })
    }

    /// One request for what is missing.
    fn connection(&self, url: &str, transfer: &mut Transfer<'_>) -> Result<(), Broken> {
        let mut request = self.agent.get(url);
        if transfer.have > 0 {
            request = request.header(header::RANGE, format!("bytes={}-", transfer.have));
        }
        let mut response = request.call().map_err(|e| classify(&e))?;
        let size = transfer.archive.size;
        match response.status() {
            StatusCode::OK => transfer.restart().map_err(Broken::Local)?,
            StatusCode::PARTIAL_CONTENT if transfer.have > 0 => {
                let expected = format!("bytes {}-{}/{size}", transfer.have, size - 1);
                let range = text(&response, header::CONTENT_RANGE);
                if range != expected {
                    let problem = format!("it sends the range `{range}`, asked was `{expected}`");
                    return Err(Broken::Permanent(problem));
                }
            }
            StatusCode::RANGE_NOT_SATISFIABLE => {
                return Err(Broken::Permanent(
                    "its file is shorter than the published one".into(),
                ));
            }
            status if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS => {
                return Err(Broken::Retry(format!("the server answers {status}")));
            }
            status => return Err(Broken::Permanent(format!("the server answers {status}"))),
        }
        let rest = size - transfer.have;
        if let Some(length) = response
            .body()
            .content_length()
            .filter(|&length| length != rest)
        {
            let problem = format!("it would send {length} bytes, the published file needs {rest}");
            return Err(Broken::Permanent(problem));
        }
        transfer.copy(response.body_mut())
    }
}

fn text(response: &Response<Body>, name: header::HeaderName) -> &str {
    response
        .headers()
        .get(name)
        .and_then(|value| value.to_str().ok())
        .unwrap_or("")
}

fn classify(error: &ureq::Error) -> Broken {
    use ureq::Error;
    match error {
        Error::Io(_) | Error::Timeout(_) | Error::ConnectionFailed | Error::Protocol(_) => {
            Broken::Retry(error.to_string())
        }
        _ => Broken::Permanent(error.to_string()),
    }
}

/// What is known while the file is under way.
struct Transfer<'a> {
    part: &'a mut Part,
    archive: &'a Archive,
    progress: &'a mut dyn Progress,
    received: &'a mut u64,
    /// Bytes that are there.
    have: u64,
}

impl Transfer<'_> {
    fn restart(&mut self) -> Result<(), DataError> {
        self.have = 0;
        self.part.clear()
    }

    /// Appends the body; never more than the published size.
    fn copy(&mut self, body: &mut Body) -> Result<(), Broken> {
        let size = self.archive.size;
        let mut body = body.with_config().limit(u64::MAX).reader();
        let mut buffer = vec![0; 1 << 16];
        loop {
            let n = match body.read(&mut buffer) {
                Ok(0) if self.have == size => return Ok(()),
                Ok(0) => {
                    let problem =
                        format!("the connection ended after {} of {size} bytes", self.have);
                    return Err(Broken::Retry(problem));
                }
                Ok(n) => n,
                Err(e) => return Err(Broken::Retry(e.to_string())),
            };
            if n as u64 > size - self.have {
                let problem = format!("it sends more than the published {size} bytes");
                return Err(Broken::Permanent(problem));
            }
            self.part
                .write(self.have, &buffer[..n])
                .map_err(Broken::Local)?;
            self.have += n as u64;
            *self.received += n as u64;
            let file = self.archive.name.as_str();
            self.progress.event(Event::Received {
                file,
                bytes: self.have,
                total: size,
            });
        }
    }
}
