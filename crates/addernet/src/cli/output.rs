//! What is printed and written, and where.

use std::io::Write;
use std::path::Path;

use addernet::graph::file::write_atomically;
use anyhow::{Context, bail};
use serde::Serialize;

use super::interrupt;

/// Prints one JSON object.
pub(crate) fn json(value: &impl Serialize) -> anyhow::Result<()> {
    text(&serde_json::to_string(value)?)
}

/// Prints lines for people.
pub(crate) fn text(text: &str) -> anyhow::Result<()> {
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "{text}")?;
    Ok(stdout.flush()?)
}

/// Whether `error` says that nobody reads the output any more.
pub(crate) fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error
        .downcast_ref::<std::io::Error>()
        .is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
}

/// Reports an error, in one line on standard error.
pub(crate) fn error(error: &anyhow::Error) {
    eprintln!("addernet: error: {}", one_line(error));
}

/// Reports what goes on otherwise than asked for, in one line on standard error.
#[cfg(feature = "train")]
pub(crate) fn warn(message: &str) {
    eprintln!("addernet: warning: {message}");
}

/// An error with its causes, each named once, in one line.
pub(crate) fn one_line(error: &anyhow::Error) -> String {
    let mut line = String::new();
    for cause in error.chain() {
        let text = cause.to_string();
        // Many messages quote their cause already.
        if line.contains(text.as_str()) {
            continue;
        }
        if !line.is_empty() {
            line.push_str(": ");
        }
        line.push_str(&text);
    }
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Makes sure that `path` can be written to, before hours of work depend on it.
pub(crate) fn check_destination(path: &Path) -> anyhow::Result<()> {
    let shown = path.display();
    if path.is_dir() || path.file_name().is_none() {
        bail!("{shown}: is a folder; name a file to write to");
    }
    let folder = folder_of(path);
    if !folder.is_dir() {
        let folder = folder.display();
        bail!("{shown}: cannot be written: there is no folder `{folder}`; create it first");
    }
    tempfile::tempfile_in(folder).with_context(|| {
        format!(
            "{shown}: cannot be written: no file can be created in `{}`",
            folder.display()
        )
    })?;
    Ok(())
}

/// Whether both paths lead to one existing file.
pub(crate) fn is_same_file(a: &Path, b: &Path) -> bool {
    match (a.canonicalize(), b.canonicalize()) {
        (Ok(a), Ok(b)) => a == b,
        _ => false,
    }
}

/// Writes `bytes` to `path`, whole or not at all; a Ctrl-C waits for it.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    Ok(interrupt::uninterrupted(|| write_atomically(path, bytes))?)
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// 0.9182 as `91.82 %`.
pub(crate) fn percent(share: f64) -> String {
    format!("{:.2} %", 100.0 * share)
}

/// 1234567 as `1,234,567`.
pub(crate) fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{path}: {source}")]
    struct Quoting {
        path: &'static str,
        source: std::io::Error,
    }

    #[test]
    fn causes_that_are_quoted_already_are_named_once() {
        let source = std::io::Error::other("disk\nis full");
        let error = anyhow::Error::new(Quoting {
            path: "a.bin",
            source,
        })
        .context("no luck");
        assert_eq!(one_line(&error), "no luck: a.bin: disk is full");
    }

    #[test]
    fn thousands_are_grouped() {
        let grouped = [0, 7, 999, 1000, 45_678, 1_234_567].map(thousands);
        assert_eq!(grouped, ["0", "7", "999", "1,000", "45,678", "1,234,567"]);
    }

    #[test]
    fn destinations_are_checked_and_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        check_destination(&folder.path().join("new.safetensors")).unwrap();
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
        let file = folder.path().join("file");
        std::fs::write(&file, "x").unwrap();
        for (path, reason) in [
            (folder.path().to_owned(), "is a folder"),
            (folder.path().join("no").join("x"), "there is no folder"),
            (file.join("x"), "there is no folder"),
        ] {
            let error = one_line(&check_destination(&path).unwrap_err());
            assert!(
                error.contains(reason) && error.contains(path.to_str().unwrap()),
                "{error}"
            );
        }
    }

    #[test]
    fn files_are_replaced_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        write(&path, b"one").unwrap();
        write(&path, b"two").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"two");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
        assert!(is_same_file(&path, &folder.path().join(".").join("x")));
        assert!(!is_same_file(&path, &folder.path().join("y")));
    }
}
