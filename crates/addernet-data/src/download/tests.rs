mod server;

use std::fs;
use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;
use server::{Reply, Server};

use super::checksum::Hasher;
use super::manifest::Member;
use super::*;

fn contents(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i * i % 251) as u8).collect()
}

fn sums(bytes: &[u8]) -> Digests {
    let mut hasher = Hasher::default();
    hasher.update(bytes);
    hasher.finish()
}

fn plain(name: &str, bytes: &[u8]) -> Archive {
    Archive {
        name: name.to_owned(),
        size: bytes.len() as u64,
        digests: sums(bytes),
        content: Content::Plain,
    }
}

fn manifest(mirrors: &[&Server], archives: Vec<Archive>) -> Manifest {
    Manifest {
        folder: "set".to_owned(),
        mirrors: mirrors.iter().map(|server| server.url()).collect(),
        archives,
    }
}

fn options() -> DownloadOptions {
    DownloadOptions {
        retries: 2,
        retry_pause: Duration::from_millis(1),
        timeout: Duration::from_secs(5),
        ..DownloadOptions::default()
    }
}

/// Downloads and gives the names of the events too, repetitions removed.
fn run(
    manifest: &Manifest,
    dir: &Path,
    options: &DownloadOptions,
) -> (Result<Downloaded, DataError>, Vec<String>) {
    let mut events = Vec::new();
    let mut progress = |event: Event<'_>| {
        let text = format!("{event:?}");
        let name = text.split(' ').next().unwrap().to_owned();
        if events.last() != Some(&name) {
            events.push(name);
        }
    };
    let result = download_manifest(manifest, dir, options, &mut progress);
    (result, events)
}

fn listing(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(dir)
        .map(|entries| {
            entries
                .map(|e| e.unwrap().file_name().into_string().unwrap())
                .collect()
        })
        .unwrap_or_default();
    names.sort();
    names
}

#[test]
fn fresh_download_then_nothing_to_do_then_by_force() {
    let bytes = contents(300_000);
    let server = Server::start(&bytes, vec![Reply::Whole, Reply::Whole]);
    let manifest = manifest(&[&server], vec![plain("a.gz", &bytes)]);
    let temp = tempfile::tempdir().unwrap();

    let (result, events) = run(&manifest, temp.path(), &options());
    let downloaded = result.unwrap();
    assert_eq!(downloaded.dir, temp.path().join("set"));
    assert_eq!(downloaded.files, [temp.path().join("set/a.gz")]);
    assert_eq!(downloaded.bytes_received, 300_000);
    assert_eq!(events, ["Started", "Received", "Verifying", "Finished"]);
    assert_eq!(fs::read(&downloaded.files[0]).unwrap(), bytes);
    assert_eq!(listing(&downloaded.dir), ["a.gz"]);

    // The folder itself may be given as well as its parent.
    for dir in [temp.path(), &downloaded.dir] {
        let (result, events) = run(&manifest, dir, &options());
        assert_eq!(
            result.unwrap(),
            Downloaded {
                bytes_received: 0,
                ..downloaded.clone()
            }
        );
        assert_eq!(events, ["AlreadyPresent"]);
    }

    let force = DownloadOptions {
        force: true,
        ..options()
    };
    let (result, _) = run(&manifest, temp.path(), &force);
    assert_eq!(result.unwrap().bytes_received, 300_000);
    assert_eq!(server.requests(), ["GET /base/a.gz", "GET /base/a.gz"]);
}

#[test]
fn a_damaged_file_is_replaced() {
    let bytes = contents(1000);
    let server = Server::start(&bytes, vec![Reply::Whole]);
    let temp = tempfile::tempdir().unwrap();
    fs::create_dir(temp.path().join("set")).unwrap();
    let mut damaged = bytes.clone();
    damaged[500] ^= 1;
    fs::write(temp.path().join("set/a.gz"), damaged).unwrap();
    let (result, _) = run(
        &manifest(&[&server], vec![plain("a.gz", &bytes)]),
        temp.path(),
        &options(),
    );
    assert_eq!(fs::read(&result.unwrap().files[0]).unwrap(), bytes);
}

#[test]
fn a_cut_connection_is_resumed() {
    let bytes = contents(300_000);
    let cuts = vec![
        Reply::CutAfter(100_000),
        Reply::CutAfter(50_000),
        Reply::Whole,
    ];
    let server = Server::start(&bytes, cuts);
    let temp = tempfile::tempdir().unwrap();
    let (result, events) = run(
        &manifest(&[&server], vec![plain("a.gz", &bytes)]),
        temp.path(),
        &options(),
    );
    let downloaded = result.unwrap();
    assert_eq!(fs::read(&downloaded.files[0]).unwrap(), bytes);
    assert_eq!(downloaded.bytes_received, 300_000);
    let expected = [
        "Started",
        "Received",
        "Retrying",
        "Received",
        "Retrying",
        "Received",
        "Verifying",
        "Finished",
    ];
    assert_eq!(events, expected);
    assert_eq!(
        server.requests(),
        [
            "GET /base/a.gz",
            "GET /base/a.gz bytes=100000-",
            "GET /base/a.gz bytes=150000-"
        ]
    );
}

#[test]
fn an_interrupted_run_is_resumed_by_the_next() {
    let bytes = contents(300_000);
    let server = Server::start(&bytes, vec![Reply::CutAfter(100_000), Reply::Whole]);
    let manifest = manifest(&[&server], vec![plain("a.gz", &bytes)]);
    let temp = tempfile::tempdir().unwrap();
    let once = DownloadOptions {
        retries: 0,
        ..options()
    };
    let (result, _) = run(&manifest, temp.path(), &once);
    let error = result.unwrap_err().to_string();
    assert!(
        error.starts_with("cannot download a.gz: http://127.0.0.1"),
        "{error}"
    );
    assert_eq!(listing(&temp.path().join("set")), ["a.gz.part"]);

    let (result, _) = run(&manifest, temp.path(), &once);
    assert_eq!(result.unwrap().bytes_received, 200_000);
    assert_eq!(listing(&temp.path().join("set")), ["a.gz"]);
    assert_eq!(server.requests()[1], "GET /base/a.gz bytes=100000-");
}

#[test]
fn a_server_without_ranges_starts_over() {
    let bytes = contents(300_000);
    let server = Server::start(&bytes, vec![Reply::CutAfter(100_000), Reply::IgnoringRange]);
    let temp = tempfile::tempdir().unwrap();
    let (result, _) = run(
        &manifest(&[&server], vec![plain("a.gz", &bytes)]),
        temp.path(),
        &options(),
    );
    let downloaded = result.unwrap();
    assert_eq!(fs::read(&downloaded.files[0]).unwrap(), bytes);
    assert_eq!(downloaded.bytes_received, 400_000);
}

#[test]
fn a_body_of_unknown_length_is_read_to_the_published_size() {
    let bytes = contents(10_000);
    let server = Server::start(&bytes, vec![Reply::Chunked]);
    let temp = tempfile::tempdir().unwrap();
    let (result, _) = run(
        &manifest(&[&server], vec![plain("a.gz", &bytes)]),
        temp.path(),
        &options(),
    );
    assert_eq!(fs::read(&result.unwrap().files[0]).unwrap(), bytes);

    // Ten bytes more than published: refused as they arrive, whatever the server announces.
    let server = Server::start(&bytes, vec![Reply::Chunked]);
    let temp = tempfile::tempdir().unwrap();
    let short = vec![plain("a.gz", &bytes[..9990])];
    let (result, _) = run(&manifest(&[&server], short), temp.path(), &options());
    let error = result.unwrap_err().to_string();
    assert!(
        error.contains("it sends more than the published 9990 bytes"),
        "{error}"
    );
}

#[test]
fn retries_end_when_nothing_arrives() {
    let bytes = contents(1000);
    let server = Server::start(
        &bytes,
        vec![Reply::Status(503), Reply::CutAfter(0), Reply::Status(429)],
    );
    let temp = tempfile::tempdir().unwrap();
    let (result, events) = run(
        &manifest(&[&server], vec![plain("a.gz", &bytes)]),
        temp.path(),
        &options(),
    );
    let error = result.unwrap_err().to_string();
    assert!(error.contains("the server answers 429"), "{error}");
    assert_eq!(events, ["Started", "Retrying"]);
    assert_eq!(server.requests().len(), 3);
    assert!(
        listing(temp.path()).is_empty(),
        "{:?}",
        listing(temp.path())
    );
}

#[test]
fn a_wrong_file_leaves_nothing_behind() {
    let bytes = contents(1000);
    let mut wrong = bytes.clone();
    wrong[999] ^= 1;
    let server = Server::start(&wrong, vec![Reply::Whole]);
    let temp = tempfile::tempdir().unwrap();
    let (result, _) = run(
        &manifest(&[&server], vec![plain("a.gz", &bytes)]),
        temp.path(),
        &options(),
    );
    let error = result.unwrap_err();
    let DataError::Checksum {
        algorithm,
        ref expected,
        ref found,
        ..
    } = error
    else {
        panic!("{error}")
    };
    assert_eq!(algorithm, "MD5");
    assert_eq!(
        (Some(expected), Some(found)),
        (sums(&bytes).md5.as_ref(), sums(&wrong).md5.as_ref())
    );
    assert!(
        error.to_string().contains("is not the published file"),
        "{error}"
    );
    assert!(
        listing(temp.path()).is_empty(),
        "{:?}",
        listing(temp.path())
    );
    assert_eq!(server.requests().len(), 1);
}

#[test]
fn a_sha256_mismatch_alone_is_enough() {
    let bytes = contents(1000);
    let server = Server::start(&bytes, vec![Reply::Whole]);
    let mut archive = plain("a.gz", &bytes);
    archive.digests.sha256 = "0".repeat(64);
    let temp = tempfile::tempdir().unwrap();
    let (result, _) = run(
        &manifest(&[&server], vec![archive]),
        temp.path(),
        &options(),
    );
    assert!(matches!(
        result,
        Err(DataError::Checksum {
            algorithm: "SHA-256",
            ..
        })
    ));
}

#[test]
fn a_damaged_partial_file_is_fetched_anew() {
    let bytes = contents(1000);
    let server = Server::start(&bytes, vec![Reply::Whole, Reply::Whole]);
    let temp = tempfile::tempdir().unwrap();
    fs::create_dir(temp.path().join("set")).unwrap();
    fs::write(temp.path().join("set/a.gz.part"), [9; 400]).unwrap();
    let (result, _) = run(
        &manifest(&[&server], vec![plain("a.gz", &bytes)]),
        temp.path(),
        &options(),
    );
    assert_eq!(fs::read(&result.unwrap().files[0]).unwrap(), bytes);
    assert_eq!(
        server.requests(),
        ["GET /base/a.gz bytes=400-", "GET /base/a.gz"]
    );
}

#[test]
fn a_partial_file_that_is_too_long_or_just_complete() {
    let bytes = contents(1000);
    for (part, requests) in [(vec![1; 2000], 1), (bytes.clone(), 0)] {
        let server = Server::start(&bytes, vec![Reply::Whole]);
        let temp = tempfile::tempdir().unwrap();
        fs::create_dir(temp.path().join("set")).unwrap();
        fs::write(temp.path().join("set/a.gz.part"), part).unwrap();
        let (result, _) = run(
            &manifest(&[&server], vec![plain("a.gz", &bytes)]),
            temp.path(),
            &options(),
        );
        assert_eq!(fs::read(&result.unwrap().files[0]).unwrap(), bytes);
        assert_eq!(server.requests().len(), requests);
    }
}

#[test]
fn a_missing_file_names_address_and_status_and_is_not_asked_for_again() {
    let server = Server::start(&[], vec![Reply::Status(404)]);
    let temp = tempfile::tempdir().unwrap();
    let (result, _) = run(
        &manifest(&[&server], vec![plain("a.gz", &contents(10))]),
        temp.path(),
        &options(),
    );
    let error = result.unwrap_err().to_string();
    assert_eq!(
        error,
        format!(
            "cannot download a.gz: {}/a.gz: the server answers 404 Not Found",
            server.url()
        )
    );
    assert_eq!(server.requests().len(), 1);
    assert!(listing(temp.path()).is_empty());
}

#[test]
fn the_next_mirror_takes_over() {
    let bytes = contents(1000);
    let wrong = contents(1001);
    let gone = Server::start(&[], vec![Reply::Status(404)]);
    let other = Server::start(&wrong, vec![Reply::Whole]);
    let good = Server::start(&bytes, vec![Reply::Whole]);
    let temp = tempfile::tempdir().unwrap();
    let manifest = manifest(&[&gone, &other, &good], vec![plain("a.gz", &bytes)]);
    let (result, _) = run(&manifest, temp.path(), &options());
    assert_eq!(fs::read(&result.unwrap().files[0]).unwrap(), bytes);
    // The second server's file has another length and is not even transferred.
    assert_eq!(good.requests(), ["GET /base/a.gz"]);
}

#[test]
fn nobody_listens() {
    let server = Server::start(&[], vec![]);
    let url = server.url();
    drop(server);
    let manifest = Manifest {
        folder: "set".to_owned(),
        mirrors: vec![url],
        archives: vec![plain("a.gz", &contents(10))],
    };
    let temp = tempfile::tempdir().unwrap();
    let (result, events) = run(&manifest, temp.path(), &options());
    assert!(matches!(result, Err(DataError::Download { .. })));
    assert_eq!(events, ["Started", "Retrying"]);
    assert!(listing(temp.path()).is_empty());
}

#[test]
fn archives_are_unpacked_and_removed() {
    let members = [
        ("set/a.bin", contents(5000)),
        ("set/b.bin", contents(70_000)),
    ];
    let mut tar = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::default()));
    for (path, bytes) in &members {
        let mut header = tar::Header::new_ustar();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        tar.append_data(&mut header, path, &bytes[..]).unwrap();
    }
    let packed = tar.into_inner().unwrap().finish().unwrap();
    let member = |(path, bytes): &(&str, Vec<u8>)| Member {
        path: (*path).to_owned(),
        size: bytes.len() as u64,
        digests: Digests {
            md5: None,
            ..sums(bytes)
        },
    };
    let content = Content::TarGz {
        members: members.iter().map(member).collect(),
    };
    let archive = Archive {
        content,
        ..plain("set.tar.gz", &packed)
    };
    let server = Server::start(&packed, vec![Reply::Whole, Reply::Whole]);
    let manifest = manifest(&[&server], vec![archive]);
    let temp = tempfile::tempdir().unwrap();
    let (result, events) = run(&manifest, temp.path(), &options());
    let dir = result.unwrap().dir;
    assert_eq!(
        events,
        ["Started", "Received", "Verifying", "Extracting", "Finished"]
    );
    assert_eq!(listing(&dir), ["a.bin", "b.bin"]);
    assert_eq!(fs::read(dir.join("b.bin")).unwrap(), members[1].1);

    let (_, events) = run(&manifest, temp.path(), &options());
    assert_eq!(events, ["AlreadyPresent"]);
    fs::remove_file(dir.join("a.bin")).unwrap();
    let (_, events) = run(&manifest, temp.path(), &options());
    assert_eq!(events.last().unwrap(), "Finished");
    assert_eq!(listing(&dir), ["a.bin", "b.bin"]);
}

#[test]
fn an_unwritable_folder_is_named() {
    let temp = tempfile::tempdir().unwrap();
    let file = temp.path().join("file");
    fs::write(&file, "in the way").unwrap();
    let server = Server::start(&[], vec![]);
    let (result, _) = run(
        &manifest(&[&server], vec![plain("a.gz", &contents(10))]),
        &file,
        &options(),
    );
    let error = result.unwrap_err().to_string();
    assert!(
        error.starts_with("cannot create the folder ") && error.contains("file/set"),
        "{error}"
    );
}

/// `/dev/full` takes a file's place: opening works, every write fails with "no space left on device".
#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_named_and_not_retried() {
    let bytes = contents(1000);
    let server = Server::start(&bytes, vec![Reply::Whole]);
    let temp = tempfile::tempdir().unwrap();
    fs::create_dir(temp.path().join("set")).unwrap();
    std::os::unix::fs::symlink("/dev/full", temp.path().join("set/a.gz.part")).unwrap();
    let (result, _) = run(
        &manifest(&[&server], vec![plain("a.gz", &bytes)]),
        temp.path(),
        &options(),
    );
    let error = result.unwrap_err();
    assert!(matches!(error, DataError::Io { .. }), "{error}");
    assert!(error.to_string().contains("a.gz.part"), "{error}");
    assert_eq!(server.requests().len(), 1);
}

#[test]
fn two_downloads_of_one_file_do_not_mix() {
    let temp = tempfile::tempdir().unwrap();
    fs::create_dir(temp.path().join("set")).unwrap();
    let other = Part::open(temp.path().join("set/a.gz.part"), "a.gz").unwrap();
    let bytes = contents(1000);
    let server = Server::start(&bytes, vec![Reply::Whole]);
    let manifest = manifest(&[&server], vec![plain("a.gz", &bytes)]);
    let (result, _) = run(&manifest, temp.path(), &options());
    let error = result.unwrap_err().to_string();
    assert!(error.contains("another download is writing"), "{error}");
    drop(other);
    run(&manifest, temp.path(), &options()).0.unwrap();
}

#[test]
fn the_published_manifests_are_well_formed() {
    for kind in DatasetKind::ALL {
        let Some(manifest) = Manifest::published(kind) else {
            assert!(!kind.downloadable());
            let temp = tempfile::tempdir().unwrap();
            let error =
                download(kind, temp.path(), &options(), &mut |_: Event<'_>| {}).unwrap_err();
            assert!(
                error.to_string().contains("cannot be downloaded"),
                "{error}"
            );
            continue;
        };
        assert!(kind.downloadable());
        let hex = |sum: &str, len| {
            sum.len() == len && sum.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
        };
        for archive in &manifest.archives {
            assert!(
                archive.digests.md5.as_ref().is_some_and(|md5| hex(md5, 32)),
                "{archive:?}"
            );
            assert!(hex(&archive.digests.sha256, 64), "{archive:?}");
            assert!(archive.targets().count() > 0);
            assert!(
                archive
                    .targets()
                    .all(|target| hex(&target.digests.sha256, 64)),
                "{archive:?}"
            );
        }
        assert!(
            manifest
                .mirrors
                .iter()
                .all(|mirror| mirror.starts_with("http"))
        );
    }
}

#[test]
fn a_base_url_replaces_the_canonical_addresses() {
    let server = Server::start(&[], vec![Reply::Status(404)]);
    let temp = tempfile::tempdir().unwrap();
    let options = DownloadOptions {
        base_url: Some(server.url() + "/"),
        ..options()
    };
    let result = download(
        DatasetKind::Cifar10,
        temp.path(),
        &options,
        &mut |_: Event<'_>| {},
    );
    assert!(matches!(result, Err(DataError::Download { .. })));
    assert_eq!(server.requests(), ["GET /base/cifar-10-binary.tar.gz"]);
}
