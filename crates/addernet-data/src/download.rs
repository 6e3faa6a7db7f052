//! Downloading the published data sets.
//!
//! Each file comes from its canonical address, resumes where an earlier attempt stopped, is compared with
//! its published sums, and appears under its final name only when it is complete. While a file is under
//! way it is called `NAME.part`; interrupting the program leaves that file for the next attempt.

mod checksum;
mod extract;
mod fetch;
mod manifest;
mod part;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::error::DataError;
use crate::kind::DatasetKind;
use checksum::{Digests, digests};
use fetch::{Client, Fetched};
use manifest::{Archive, Content, Manifest};
use part::Part;

/// How to download.
#[derive(Clone, Debug)]
pub struct DownloadOptions {
    /// Download again what is already there (false).
    pub force: bool,
    /// A mirror to use instead of the canonical addresses; file names are appended to it.
    pub base_url: Option<String>,
    /// How often to go on after a broken connection or a busy server, per file and address, without a
    /// single byte arriving in between (3).
    pub retries: u32,
    /// Pause before the first of these retries; it doubles each time, up to a minute (1 s).
    pub retry_pause: Duration,
    /// How long to wait for a connection, or for the next bytes of one (60 s).
    pub timeout: Duration,
}

impl Default for DownloadOptions {
    fn default() -> Self {
        Self {
            force: false,
            base_url: None,
            retries: 3,
            retry_pause: Duration::from_secs(1),
            timeout: Duration::from_secs(60),
        }
    }
}

/// What is happening. Per file: `AlreadyPresent`, or `Started`, `Received` many times, `Verifying`,
/// perhaps `Extracting`, and `Finished`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event<'a> {
    /// The file is there with the published contents.
    AlreadyPresent {
        /// The file or archive.
        file: &'a str,
    },
    /// The transfer begins; it begins anew if a mirror fails.
    Started {
        /// The file or archive.
        file: &'a str,
        /// Its size in bytes.
        total: u64,
        /// Bytes that are there from an earlier attempt.
        resumed_from: u64,
    },
    /// Bytes have arrived.
    Received {
        /// The file or archive.
        file: &'a str,
        /// Bytes there so far, earlier attempts included.
        bytes: u64,
        /// Its size in bytes.
        total: u64,
    },
    /// The connection failed and will be tried again.
    Retrying {
        /// The file or archive.
        file: &'a str,
        /// What went wrong.
        reason: &'a str,
    },
    /// The sums are being compared.
    Verifying {
        /// The file or archive.
        file: &'a str,
    },
    /// The archive is being unpacked.
    Extracting {
        /// The archive.
        file: &'a str,
    },
    /// The file or the archive's files are in place.
    Finished {
        /// The file or archive.
        file: &'a str,
    },
}

/// Receives events, to show progress. Closures do.
pub trait Progress {
    /// Called from the thread that downloads, several times a second.
    fn event(&mut self, event: Event<'_>);
}

impl<F: FnMut(Event<'_>)> Progress for F {
    fn event(&mut self, event: Event<'_>) {
        self(event);
    }
}

/// What [`download`] did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Downloaded {
    /// The folder with the files.
    pub dir: PathBuf,
    /// The files of the data set.
    pub files: Vec<PathBuf>,
    /// Bytes that came over the network.
    pub bytes_received: u64,
}

/// Downloads a data set into its usual folder below `data_dir`, where
/// [`Dataset::open`](crate::Dataset::open) with the same `data_dir` finds it: `cifar-10-batches-bin`,
/// `cifar-100-binary`, `mnist` or `fashion-mnist`. If `data_dir` is itself called so, it is that folder.
///
/// Files that are there with the published sums are kept. Archives are unpacked and removed.
///
/// # Errors
/// [`DataError::NotDownloadable`] for image folders and shapes, [`DataError::Download`] if no address
/// delivers a file, [`DataError::Checksum`] if the last one delivers another file than the published one
/// (nothing of it is kept), [`DataError::Corrupt`] if an archive does not hold what it should, and
/// [`DataError::Io`] if the folder cannot be written.
pub fn download(
    kind: DatasetKind,
    data_dir: &Path,
    options: &DownloadOptions,
    progress: &mut dyn Progress,
) -> Result<Downloaded, DataError> {
    let mut manifest = Manifest::published(kind).ok_or(DataError::NotDownloadable { kind })?;
    if let Some(base_url) = &options.base_url {
        manifest.mirrors = vec![base_url.clone()];
    }
    download_manifest(&manifest, data_dir, options, progress)
}

fn download_manifest(
    manifest: &Manifest,
    data_dir: &Path,
    options: &DownloadOptions,
    progress: &mut dyn Progress,
) -> Result<Downloaded, DataError> {
    let dir = if data_dir.ends_with(&manifest.folder) {
        data_dir.to_path_buf()
    } else {
        data_dir.join(&manifest.folder)
    };
    let existed = dir.is_dir();
    fs::create_dir_all(&dir).map_err(DataError::io(&dir, "create the folder"))?;
    let mut job = Job {
        manifest,
        options,
        progress,
        client: Client::new(options),
        received: 0,
    };
    let mut files = Vec::new();
    for archive in &manifest.archives {
        if let Err(error) = job.archive(archive, &dir) {
            if !existed {
                // Succeeds only if nothing was left in it.
                let _ = fs::remove_dir(&dir);
            }
            return Err(error);
        }
        files.extend(archive.targets().map(|target| dir.join(target.name)));
    }
    Ok(Downloaded {
        dir,
        files,
        bytes_received: job.received,
    })
}

struct Job<'a> {
    manifest: &'a Manifest,
    options: &'a DownloadOptions,
    progress: &'a mut dyn Progress,
    client: Client,
    received: u64,
}

impl Job<'_> {
    /// Brings one file, or the files of one archive, into `dir`.
    fn archive(&mut self, archive: &Archive, dir: &Path) -> Result<(), DataError> {
        let file = archive.name.as_str();
        if !self.options.force && is_present(archive, dir)? {
            self.progress.event(Event::AlreadyPresent { file });
            return Ok(());
        }
        let mut part = Part::open(dir.join(format!("{file}.part")), file)?;
        if self.options.force {
            part.clear()?;
        }
        if let Err(error) = self.fetch_verified(archive, &mut part) {
            // A partial file is worth keeping, an empty one is not.
            if part.len()? == 0 {
                part.remove()?;
            }
            return Err(error);
        }
        match &archive.content {
            Content::Plain => part.rename(&dir.join(file))?,
            Content::TarGz { members } => {
                self.progress.event(Event::Extracting { file });
                let path = part.path().to_path_buf();
                extract::tar_gz(part.reader()?, &path, members, dir)?;
                part.remove()?;
            }
        }
        self.progress.event(Event::Finished { file });
        Ok(())
    }

    /// Fills `part` from one mirror after the other, until the sums are right.
    fn fetch_verified(&mut self, archive: &Archive, part: &mut Part) -> Result<(), DataError> {
        let mut failures = Vec::new();
        let mut mismatch = None;
        for mirror in &self.manifest.mirrors {
            let url = format!("{}/{}", mirror.trim_end_matches('/'), archive.name);
            // The second attempt is for a partial file left by an earlier run that had been damaged.
            for _ in 0..2 {
                let fetched = self.client.fetch(
                    &url,
                    archive,
                    part,
                    self.options,
                    self.progress,
                    &mut self.received,
                )?;
                let resumed = match fetched {
                    Fetched::Complete { resumed } => resumed,
                    Fetched::Failed { reason } => {
                        failures.push(format!("{url}: {reason}"));
                        break;
                    }
                };
                self.progress.event(Event::Verifying {
                    file: &archive.name,
                });
                let found = part.digests()?;
                let Some(wrong) = found.mismatch(&archive.digests) else {
                    return Ok(());
                };
                part.clear()?;
                mismatch = Some(DataError::Checksum {
                    file: archive.name.clone(),
                    url: url.clone(),
                    algorithm: wrong.algorithm,
                    expected: wrong.expected,
                    found: wrong.found,
                });
                if !resumed {
                    break;
                }
            }
        }
        Err(mismatch.unwrap_or_else(|| DataError::Download {
            file: archive.name.clone(),
            reason: failures.join("; "),
        }))
    }
}

/// Whether every file that the archive brings is there with the published contents.
fn is_present(archive: &Archive, dir: &Path) -> Result<bool, DataError> {
    for target in archive.targets() {
        let path = dir.join(target.name);
        match fs::metadata(&path) {
            Ok(metadata) if metadata.is_file() && metadata.len() == target.size => {}
            _ => return Ok(false),
        }
        if digests(&path)?.mismatch(target.digests).is_some() {
            return Ok(false);
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests;
