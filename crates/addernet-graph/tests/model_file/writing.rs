//! A file is there whole or not at all.

use std::path::Path;

use addernet_graph::file::ModelFile;

use crate::common::skipped;
use crate::{assert_same, model};

/// Names of the files in a folder.
fn listing(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect()
}

#[test]
fn a_failed_write_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let file = ModelFile::from(model());
    let check = |path: &Path, part: &str| {
        let error = file.write(path).unwrap_err().to_string();
        assert!(error.starts_with(&path.display().to_string()), "{error}");
        assert!(
            error.contains(part) && !error.contains('\n'),
            "`{part}` is not in: {error}"
        );
    };
    check(
        &folder.path().join("missing/model.safetensors"),
        "create it first",
    );
    std::fs::write(folder.path().join("plain"), "text").unwrap();
    check(
        &folder.path().join("plain/model.safetensors"),
        "there is no folder",
    );
    check(folder.path(), "is a folder");
    check(Path::new(""), "is a folder");
    check(Path::new("/"), "is a folder");
    // The rename itself fails, after everything was written.
    check(&folder.path().join("x".repeat(300)), "renaming failed");
    #[cfg(target_os = "linux")]
    check(
        Path::new("/proc/self/model.safetensors"),
        "no file can be created there",
    );
    assert_eq!(listing(folder.path()), ["plain"]);
}

#[test]
fn an_existing_file_is_replaced_whole_or_kept() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    std::fs::write(&path, "old").unwrap();
    let mut unwritable = ModelFile::from(model());
    unwritable.set_extension("graph", &1).unwrap();
    assert!(unwritable.write(&path).is_err());
    assert_eq!(std::fs::read(&path).unwrap(), b"old");
    ModelFile::from(model()).write(&path).unwrap();
    assert_same(
        &ModelFile::read(&path).unwrap().into_model().unwrap(),
        &model(),
    );
    assert_eq!(listing(folder.path()), ["model.safetensors"]);
    #[cfg(unix)]
    {
        // Readable like any other new file, not private like a temporary one.
        use std::os::unix::fs::PermissionsExt;
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        let ordinary = folder.path().join("ordinary");
        std::fs::write(&ordinary, "").unwrap();
        assert_eq!(mode(&path), mode(&ordinary));
    }
}

#[cfg(unix)]
#[test]
fn a_folder_without_write_permission_is_an_error() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let locked = folder.path().join("locked");
    std::fs::create_dir(&locked).unwrap();
    std::fs::set_permissions(&locked, std::fs::Permissions::from_mode(0o555)).unwrap();
    if std::fs::write(locked.join("probe"), "").is_ok() {
        skipped(format_args!("permissions do not bind this user"));
        return;
    }
    let path = locked.join("model.safetensors");
    let error = ModelFile::from(model())
        .write(&path)
        .unwrap_err()
        .to_string();
    assert!(error.contains("no file can be created there"), "{error}");
    assert!(listing(&locked).is_empty());
}
