//! The command line: one file per verb.

mod analyze;
mod args;
mod bench;
mod chart;
mod cost;
#[cfg(feature = "train")]
mod demo;
mod download;
mod engine;
mod eval;
mod hash;
mod inspect;
mod interrupt;
mod output;
mod predict;
mod progress;
mod quantize;
mod sweep;
mod table;
#[cfg(feature = "train")]
mod train;

use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser, Subcommand};

const EXAMPLES: &str = "\
Examples:
  addernet download cifar10 --data-dir data
  addernet eval resnet20.pth --dataset cifar10 --data-dir data
  addernet quantize resnet20.pth --bits 4 --dataset cifar10 --data-dir data \\
    -o q4.safetensors
  addernet eval q4.safetensors --dataset cifar10 --data-dir data --json
  addernet predict q4.safetensors photo.png
  addernet inspect q4.safetensors --cost
  addernet sweep resnet20.pth --dataset cifar10 --data-dir data --bits 8,6,4 --out sweep
  addernet analyze resnet20.pth --dataset cifar10 --data-dir data -o report.html

MODEL is a PyTorch checkpoint (.pth, .pt; nothing in it is executed), a safetensors state dict, or a model file of this program.

Exit status: 0 if all went well, 1 after an error (one line on standard error), 2 if the command line is wrong, 130 after Ctrl-C.";

/// Quantize and run AdderNets: neural networks whose convolutions add absolute differences instead of
/// products.
#[derive(Parser)]
#[command(name = "addernet", version, after_help = EXAMPLES, arg_required_else_help = true)]
#[command(disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    Eval(eval::EvalArgs),
    Quantize(quantize::QuantizeArgs),
    Predict(predict::PredictArgs),
    Inspect(inspect::InspectArgs),
    Analyze(analyze::AnalyzeArgs),
    Sweep(sweep::SweepArgs),
    Download(download::DownloadArgs),
    Bench(bench::BenchArgs),
    #[cfg(feature = "train")]
    Train(train::TrainArgs),
    #[cfg(feature = "train")]
    Demo(demo::DemoArgs),
}

/// Parses the command line, runs the verb, and reports its error in one line.
pub(crate) fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = interrupt::install().and_then(|()| match cli.verb {
        Verb::Eval(args) => eval::run(&args),
        Verb::Quantize(args) => quantize::run(&args),
        Verb::Predict(args) => predict::run(&args),
        Verb::Inspect(args) => inspect::run(&args),
        Verb::Analyze(args) => analyze::run(&args),
        Verb::Sweep(args) => sweep::run(&args),
        Verb::Download(args) => download::run(&args),
        Verb::Bench(args) => bench::run(&args),
        #[cfg(feature = "train")]
        Verb::Train(args) => train::run(&args),
        #[cfg(feature = "train")]
        Verb::Demo(args) => demo::run(&args),
    });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever reads the output has seen enough (`addernet inspect … | head`).
        Err(error) if output::is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            output::error(&error);
            ExitCode::FAILURE
        }
    }
}

/// Ends the program as the parser does: flags of `verb` that it cannot see contradict each other.
fn usage_error(verb: &str, message: impl std::fmt::Display) -> ! {
    let mut command = Cli::command();
    command.build();
    let command = match command.find_subcommand_mut(verb) {
        Some(subcommand) => subcommand,
        None => &mut command,
    };
    command.error(ErrorKind::ArgumentConflict, message).exit()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_verb_explains_itself_with_an_example() {
        let mut command = Cli::command();
        command.build();
        for verb in command.get_subcommands_mut() {
            let help = verb.render_long_help().to_string();
            assert!(
                help.contains("Example"),
                "{} has no example",
                verb.get_name()
            );
        }
    }
}
