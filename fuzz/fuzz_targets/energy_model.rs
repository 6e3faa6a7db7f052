//! Energy models and energies: any text is one, or there is an error of one line.
#![no_main]

use addernet_cost::{Energy, EnergyModel};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Err(error) = EnergyModel::from_toml(text, "fuzz") {
        assert_eq!(error.to_string().lines().count(), 1);
    }
    if let Err(error) = text.parse::<Energy>() {
        assert_eq!(error.to_string().lines().count(), 1);
    }
});
