//! Running the command and reading what it says.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use addernet_graph::file::ModelFile;
use serde_json::Value;
use tempfile::TempDir;

/// A folder with the small network's model file.
pub(crate) struct Folder {
    folder: TempDir,
}

impl Folder {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        ModelFile::from(crate::model::lenet())
            .write(folder.path().join("lenet.safetensors"))
            .unwrap();
        Self { folder }
    }

    pub(crate) fn model(&self) -> PathBuf {
        self.path("lenet.safetensors")
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Names of all files, sorted: shows that nothing was left behind.
    pub(crate) fn files(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.folder.path()).unwrap();
        let mut names: Vec<String> = entries
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    /// Quantizes the small network, quickly, with further flags, into `name`.
    pub(crate) fn quantize(&self, name: &str, flags: &[&str]) -> Value {
        let mut command = addernet(["quantize".as_ref(), self.model().as_os_str()]);
        command.args([
            "--dataset",
            "shapes",
            "--calibration",
            "200",
            "--json",
            "-o",
        ]);
        command.arg(self.path(name)).args(flags);
        json(command)
    }
}

/// The command with these arguments, and none of the environment's settings.
pub(crate) fn addernet<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_addernet"));
    command
        .args(args)
        .env_remove("ADDERNET_KERNEL")
        .env_remove("RAYON_NUM_THREADS");
    command
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

/// Standard output of a command that must succeed and, its error output being a pipe, say nothing there.
pub(crate) fn stdout(mut command: Command) -> String {
    let Output {
        status,
        stdout,
        stderr,
    } = command.output().unwrap();
    assert!(status.success(), "{command:?}: {status}: {}", text(&stderr));
    assert_eq!(text(&stderr), "", "{command:?}");
    text(&stdout).to_owned()
}

/// The one JSON object that a command with `--json` prints.
pub(crate) fn json(command: Command) -> Value {
    let stdout = stdout(command);
    assert_eq!(stdout.lines().count(), 1, "{stdout}");
    let value: Value = serde_json::from_str(&stdout).unwrap();
    assert!(value.is_object(), "{stdout}");
    value
}

/// The one line of an error (status 1), without its prefix.
pub(crate) fn error(mut command: Command) -> String {
    let Output {
        status,
        stdout,
        stderr,
    } = command.output().unwrap();
    let (stdout, stderr) = (text(&stdout), text(&stderr));
    assert_eq!(status.code(), Some(1), "{command:?}: {stdout}{stderr}");
    assert_eq!(stdout, "", "{command:?}");
    let line = stderr
        .strip_prefix("addernet: error: ")
        .unwrap_or_else(|| panic!("{stderr}"));
    assert_eq!(line.lines().count(), 1, "{stderr}");
    line.trim_end().to_owned()
}

/// The message of a usage error (status 2).
pub(crate) fn usage_error(mut command: Command) -> String {
    let Output {
        status,
        stdout,
        stderr,
    } = command.output().unwrap();
    assert_eq!(status.code(), Some(2), "{command:?}: {}", text(&stderr));
    assert_eq!(text(&stdout), "", "{command:?}");
    text(&stderr).to_owned()
}

/// `addernet eval MODEL --dataset shapes --json` with further flags.
pub(crate) fn eval(model: &Path, flags: &[&str]) -> Command {
    let mut command = addernet(["eval".as_ref(), model.as_os_str()]);
    command.args(["--dataset", "shapes", "--json"]).args(flags);
    command
}
