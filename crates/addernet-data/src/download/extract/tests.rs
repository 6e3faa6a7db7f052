use std::fs;
use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use tar::{Builder, EntryType, Header};

use super::*;
use crate::download::checksum::Digests;

fn digests(contents: &[u8]) -> Digests {
    let mut hasher = Hasher::default();
    hasher.update(contents);
    Digests {
        md5: None,
        ..hasher.finish()
    }
}

fn member(path: &str, contents: &[u8]) -> Member {
    Member {
        path: path.to_owned(),
        size: contents.len() as u64,
        digests: digests(contents),
    }
}

/// A header with any path, even those that the library refuses to write.
fn append(tar: &mut Builder<GzEncoder<Vec<u8>>>, path: &str, kind: EntryType, contents: &[u8]) {
    let mut header = Header::new_ustar();
    header.as_mut_bytes()[..path.len()].copy_from_slice(path.as_bytes());
    header.set_entry_type(kind);
    if kind.is_symlink() {
        header.set_link_name("/etc/passwd").unwrap();
    }
    header.set_size(contents.len() as u64);
    header.set_mode(0o644);
    header.set_cksum();
    tar.append(&header, contents).unwrap();
}

fn archive(entries: &[(&str, EntryType, &[u8])]) -> Vec<u8> {
    let mut tar = Builder::new(GzEncoder::new(Vec::new(), Compression::default()));
    for (path, kind, contents) in entries {
        append(&mut tar, path, *kind, contents);
    }
    tar.into_inner().unwrap().finish().unwrap()
}

fn unpack_into(dir: &Path, archive: &[u8], members: &[Member]) -> Result<(), String> {
    tar_gz(&mut &archive[..], Path::new("set.tar.gz"), members, dir).map_err(|e| e.to_string())
}

fn listing(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn members_are_written_and_the_rest_is_skipped() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("set");
    fs::create_dir(&dir).unwrap();
    let packed = archive(&[
        ("set/", EntryType::Directory, b""),
        ("set/readme.html", EntryType::Regular, b"hello"),
        ("../outside", EntryType::Regular, b"no"),
        ("/tmp/absolute", EntryType::Regular, b"no"),
        ("set/link", EntryType::Symlink, b""),
        ("set/a.bin", EntryType::Regular, b"aaa"),
        ("set/b.bin", EntryType::Regular, b"bb"),
    ]);
    unpack_into(
        &dir,
        &packed,
        &[member("set/a.bin", b"aaa"), member("set/b.bin", b"bb")],
    )
    .unwrap();
    assert_eq!(listing(&dir), ["a.bin", "b.bin"]);
    assert_eq!(listing(temp.path()), ["set"]);
    assert_eq!(fs::read(dir.join("a.bin")).unwrap(), b"aaa");
}

#[test]
fn whatever_is_wrong_nothing_is_left_behind() {
    let good = ("set/a.bin", EntryType::Regular, &b"aaa"[..]);
    let members = [member("set/a.bin", b"aaa"), member("set/b.bin", b"bb")];
    for (second, complaint) in [
        (
            ("set/b.bin", EntryType::Regular, &b"bbb"[..]),
            "expected a regular file of 2 bytes, found Regular of 3",
        ),
        (("set/b.bin", EntryType::Symlink, b""), "found Symlink of 0"),
        (
            ("set/b.bin", EntryType::Regular, b"xx"),
            "set/b.bin: its SHA-256 sum is ",
        ),
        (
            ("set/a.bin", EntryType::Regular, b"aaa"),
            "the archive holds it twice",
        ),
        (
            ("set/c.bin", EntryType::Regular, b"bb"),
            "the archive lacks set/b.bin",
        ),
    ] {
        let temp = tempfile::tempdir().unwrap();
        let error = unpack_into(temp.path(), &archive(&[good, second]), &members).unwrap_err();
        assert!(
            error.starts_with("set.tar.gz: byte ") && error.contains(complaint),
            "{error}"
        );
        assert!(
            listing(temp.path()).is_empty(),
            "{complaint}: {:?}",
            listing(temp.path())
        );
    }
}

#[test]
fn earlier_files_survive_a_failure() {
    let temp = tempfile::tempdir().unwrap();
    fs::write(temp.path().join("a.bin"), "old").unwrap();
    let packed = archive(&[("set/a.bin", EntryType::Regular, b"new")]);
    let members = [member("set/a.bin", b"new"), member("set/b.bin", b"bb")];
    unpack_into(temp.path(), &packed, &members).unwrap_err();
    assert_eq!(fs::read(temp.path().join("a.bin")).unwrap(), b"old");
    unpack_into(temp.path(), &packed, &members[..1]).unwrap();
    assert_eq!(fs::read(temp.path().join("a.bin")).unwrap(), b"new");
}

#[test]
fn damaged_archives_are_named() {
    let members = [member("set/a.bin", &[7; 5000])];
    let packed = archive(&[("set/a.bin", EntryType::Regular, &[7; 5000])]);
    for bytes in [&packed[..packed.len() / 2], &b"no archive"[..], b""] {
        let temp = tempfile::tempdir().unwrap();
        let error = unpack_into(temp.path(), bytes, &members).unwrap_err();
        assert!(error.starts_with("set.tar.gz: "), "{error}");
        assert!(listing(temp.path()).is_empty());
    }
}

/// 256 MiB of zeros before the member: more than the member and its overhead may take.
#[test]
fn no_more_is_unpacked_than_the_members_need() {
    let mut gz = GzEncoder::new(Vec::new(), Compression::fast());
    let mut header = Header::new_ustar();
    header.set_path("set/padding").unwrap();
    header.set_size(256 << 20);
    header.set_cksum();
    gz.write_all(header.as_bytes()).unwrap();
    for _ in 0..256 {
        gz.write_all(&[0; 1 << 20]).unwrap();
    }
    let mut tar = Builder::new(gz);
    append(&mut tar, "set/a.bin", EntryType::Regular, b"aaa");
    let packed = tar.into_inner().unwrap().finish().unwrap();
    let temp = tempfile::tempdir().unwrap();
    let error = unpack_into(temp.path(), &packed, &[member("set/a.bin", b"aaa")]).unwrap_err();
    assert!(error.contains("damaged archive"), "{error}");
    assert!(listing(temp.path()).is_empty());
}
