//! `addernet download`.

use std::path::PathBuf;
use std::time::Instant;

use addernet::DatasetKind;
use addernet::data::download::{DownloadOptions, Event, download};
use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use indicatif::ProgressBar;
use serde::Serialize;

use super::output;
use super::progress::style;

const EXAMPLES: &str = "\
Examples:
  addernet download cifar10 --data-dir data
  addernet download fashion-mnist --data-dir data --force";

/// Download a data set from where it is published
///
/// Files are compared with their published checksums, an interrupted download goes on where it stopped,
/// and files that are there already are kept. Other verbs find the data set with the same --data-dir.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct DownloadArgs {
    /// Data set
    #[arg(value_name = "DATASET", value_parser = downloadable())]
    dataset: DatasetKind,

    /// Folder to download into; the data set gets a sub-folder of it
    #[arg(long, value_name = "DIR")]
    data_dir: PathBuf,

    /// Download again what is there already
    #[arg(long)]
    force: bool,

    /// Address to use instead of the canonical ones; the files' names are appended to it
    #[arg(long, value_name = "URL")]
    mirror: Option<String>,

    /// Print one JSON object on standard output, and nothing else there
    #[arg(long)]
    json: bool,
}

/// The JSON object.
#[derive(Serialize)]
struct Report {
    dataset: DatasetKind,
    dir: String,
    files: Vec<String>,
    bytes_received: u64,
    seconds: f64,
}

pub(crate) fn run(args: &DownloadArgs) -> anyhow::Result<()> {
    let start = Instant::now();
    let options = DownloadOptions {
        force: args.force,
        base_url: args.mirror.clone(),
        ..DownloadOptions::default()
    };
    let mut bar = ProgressBar::hidden();
    let mut show = |event: Event<'_>| match event {
        Event::Started {
            file,
            total,
            resumed_from,
        } => {
            bar = ProgressBar::new(total)
                .with_style(style("{bytes}/{total_bytes}, {bytes_per_sec}"))
                .with_message(file.to_owned())
                .with_position(resumed_from);
            bar.reset_eta();
        }
        Event::Received { bytes, .. } => bar.set_position(bytes),
        Event::Retrying { file, reason } => {
            bar.suspend(|| eprintln!("addernet: {file}: {reason}; trying again"));
        }
        Event::Verifying { file } => bar.set_message(format!("verifying {file}")),
        Event::Extracting { file } => bar.set_message(format!("unpacking {file}")),
        Event::Finished { .. } => bar.finish_and_clear(),
        _ => {}
    };
    let downloaded = download(args.dataset, &args.data_dir, &options, &mut show)?;
    let report = Report {
        dataset: args.dataset,
        dir: downloaded.dir.display().to_string(),
        files: downloaded
            .files
            .iter()
            .map(|file| file.display().to_string())
            .collect(),
        bytes_received: downloaded.bytes_received,
        seconds: start.elapsed().as_secs_f64(),
    };
    if args.json {
        return output::json(&report);
    }
    let Report {
        dataset,
        dir,
        files,
        bytes_received,
        ..
    } = &report;
    let received = match bytes_received {
        0 => "nothing had to be downloaded".to_owned(),
        bytes => format!("{} bytes downloaded", output::thousands(*bytes)),
    };
    output::text(&format!(
        "{dataset}: {} files in {dir}, {received}",
        files.len()
    ))
}

fn downloadable() -> impl TypedValueParser<Value = DatasetKind> {
    let kinds = DatasetKind::ALL
        .into_iter()
        .filter(|kind| kind.downloadable());
    PossibleValuesParser::new(kinds.map(DatasetKind::as_str))
        .try_map(|name| name.parse::<DatasetKind>())
}
