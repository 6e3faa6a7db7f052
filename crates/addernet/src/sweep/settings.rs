//! From a method's name to its settings.

use addernet_quant::{ActivationOriented, MethodKind, Reconstruction, Redistribution, SharedScale};

use crate::quantize::MethodSettings;

/// The settings of method `kind` at `bits` bits, otherwise as published.
///
/// `groups` says nothing to methods without groups; [`MethodSettings::groups`] tells what became of it.
/// This is the one place outside the methods themselves that lists them.
pub fn method_settings(kind: MethodKind, bits: u8, groups: usize) -> MethodSettings {
    match kind {
        MethodKind::Redistribution => MethodSettings::Redistribution(Redistribution {
            bits,
            groups,
            weight_clamp: true,
        }),
        MethodKind::Reconstruction => {
            MethodSettings::Reconstruction(Reconstruction::new(bits, bits))
        }
        MethodKind::ActivationOriented => MethodSettings::ActivationOriented(ActivationOriented {
            weight_bits: bits,
            activation_bits: bits,
        }),
        MethodKind::SharedScale => MethodSettings::SharedScale(SharedScale { bits }),
    }
}
