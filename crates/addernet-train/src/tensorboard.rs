//! Metrics as an event file, which TensorBoard shows.
//!
//! A file is a sequence of records (length, checksum, content, checksum), a record's content an `Event` message of
//! TensorBoard's `event.proto` in protocol buffers' wire format. Of all that could be in one, scalars are enough here, which
//! is why no code generator is needed.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

use crate::progress::EpochReport;

/// The file's name: TensorBoard looks for `tfevents`.
pub(crate) const FILE_NAME: &str = "events.out.tfevents.addernet";

/// Wire types of protocol buffers, in a field's lowest bits.
const VARINT: u8 = 0;
const FIXED64: u8 = 1;
const BYTES: u8 = 2;
const FIXED32: u8 = 5;

/// Brings the file at `path` up to date.
///
/// More epochs only add to the end, so that a TensorBoard that has it open goes on reading. What a killed run wrote in part
/// is the beginning of what is missing.
pub(crate) fn update(path: &Path, history: &[EpochReport]) -> io::Result<()> {
    let events = events(history);
    let there = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(error),
    };
    match events.strip_prefix(there.as_slice()) {
        Some(missing) => {
            let mut file = OpenOptions::new().create(true).append(true).open(path)?;
            file.write_all(missing)
        }
        None => fs::write(path, events),
    }
}

/// The whole file. Times are seconds of training since the run began.
fn events(history: &[EpochReport]) -> Vec<u8> {
    let mut file = Vec::new();
    let mut version = time(0.0);
    bytes(&mut version, 3, b"brain.Event:2");
    record(&mut file, &version);
    let mut seconds = 0.0;
    for epoch in history {
        seconds += epoch.seconds;
        let scalars = [
            ("loss/training", Some(epoch.train_loss)),
            ("loss/test", epoch.test_loss),
            ("top-1/training", Some(epoch.train_top1)),
            ("top-1/test", epoch.test_top1),
            ("learning rate", Some(epoch.lr)),
        ];
        let mut summary = Vec::new();
        for (name, value) in scalars {
            if let Some(value) = value {
                let mut scalar = Vec::new();
                bytes(&mut scalar, 1, name.as_bytes());
                key(&mut scalar, 2, FIXED32);
                scalar.extend((value as f32).to_le_bytes());
                bytes(&mut summary, 1, &scalar);
            }
        }
        let mut event = time(seconds);
        key(&mut event, 2, VARINT);
        varint(&mut event, epoch.epoch as u64);
        bytes(&mut event, 5, &summary);
        record(&mut file, &event);
    }
    file
}

/// An event with nothing but its time.
fn time(seconds: f64) -> Vec<u8> {
    let mut event = Vec::new();
    key(&mut event, 1, FIXED64);
    event.extend(seconds.to_le_bytes());
    event
}

fn key(message: &mut Vec<u8>, field: u8, wire_type: u8) {
    message.push(field << 3 | wire_type);
}

fn varint(message: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        message.push(value as u8 | 0x80);
        value >>= 7;
    }
    message.push(value as u8);
}

fn bytes(message: &mut Vec<u8>, field: u8, content: &[u8]) {
    key(message, field, BYTES);
    varint(message, content.len() as u64);
    message.extend(content);
}

fn record(file: &mut Vec<u8>, content: &[u8]) {
    let length = (content.len() as u64).to_le_bytes();
    file.extend(length);
    file.extend(masked_checksum(&length).to_le_bytes());
    file.extend(content);
    file.extend(masked_checksum(content).to_le_bytes());
}

/// CRC-32C, turned and moved, so that a checksum of checksums is none of its parts.
fn masked_checksum(bytes: &[u8]) -> u32 {
    crc32c::crc32c(bytes)
        .rotate_right(15)
        .wrapping_add(0xa282_ead8)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn history(epochs: usize) -> Vec<EpochReport> {
        (1..=epochs)
            .map(|epoch| EpochReport {
                epoch,
                lr: 0.1,
                train_loss: 2.0 / epoch as f64,
                train_top1: 0.25,
                test_loss: None,
                test_top1: (epoch % 2 == 0).then_some(0.5),
                seconds: 1.5,
            })
            .collect()
    }

    /// The contents of all records, whose checksums are right.
    fn records(mut file: &[u8]) -> Vec<Vec<u8>> {
        let mut contents = Vec::new();
        while !file.is_empty() {
            let (length, rest) = file.split_at(8);
            let len = u64::from_le_bytes(length.try_into().unwrap()) as usize;
            let (content, rest2) = rest[4..].split_at(len);
            assert_eq!(rest[..4], masked_checksum(length).to_le_bytes());
            assert_eq!(rest2[..4], masked_checksum(content).to_le_bytes());
            contents.push(content.to_vec());
            file = &rest2[4..];
        }
        contents
    }

    #[test]
    fn checksums_are_those_of_the_format() {
        // RFC 3720, B.4: 32 bytes of zeros, CRC-32C 0x8a9136aa.
        let masked = 0x8a91_36aa_u32.rotate_right(15).wrapping_add(0xa282_ead8);
        assert_eq!(masked_checksum(&[0; 32]), masked);
    }

    #[test]
    fn an_epoch_is_an_event_with_its_scalars() {
        let records = records(&events(&history(300)));
        assert_eq!(records.len(), 301);
        assert_eq!(records[0][9..], *b"\x1a\x0dbrain.Event:2");
        let second = &records[2];
        assert_eq!(second[..9], *b"\x09\0\0\0\0\0\0\x08\x40"); // 3.0
        assert_eq!(second[9..11], [0x10, 2]);
        // Loss and accuracy in training, accuracy in the test, learning rate.
        assert_eq!(second.windows(2).filter(|w| *w == [0x0a, 20]).count(), 2);
        let at = second.windows(13).position(|w| w == b"loss/training");
        let value = &second[at.unwrap() + 13..][..5];
        assert_eq!(value, [0x15, 0, 0, 0x80, 0x3f]); // 1.0
        assert!(second.windows(10).any(|w| w == b"top-1/test"));
        assert!(!second.windows(9).any(|w| w == b"loss/test"));
        // Steps beyond 127 take two bytes.
        assert_eq!(records[300][9..12], [0x10, 0xac, 2]);
    }

    #[test]
    fn a_longer_history_only_adds_to_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(FILE_NAME);
        update(&path, &history(1)).unwrap();
        let short = fs::read(&path).unwrap();
        update(&path, &history(3)).unwrap();
        let long = fs::read(&path).unwrap();
        assert!(long.starts_with(&short) && long == events(&history(3)));
        // A killed run left part of a record.
        fs::write(&path, &long[..long.len() - 7]).unwrap();
        update(&path, &history(3)).unwrap();
        assert_eq!(fs::read(&path).unwrap(), long);
        // Another run was here.
        fs::write(&path, "x").unwrap();
        update(&path, &history(3)).unwrap();
        assert_eq!(fs::read(&path).unwrap(), long);
        assert!(update(folder.path(), &history(1)).is_err());
    }
}
