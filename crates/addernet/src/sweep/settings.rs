//! From a method's name to its settings.

use addernet_quant::{ActivationOriented, MethodKind, Reconstruction, Redistribution, SharedScale};

use crate::quantize::MethodSettings;

/// The settings of method `kind` at so many bits of weights and activations, otherwise as published.
///
/// `groups` says nothing to methods without groups, and methods with one width take that of the activations;
/// [`MethodSettings::groups`] and [`MethodSettings::bits`] tell what became of them. This is the one place outside the
/// methods themselves that lists them.
pub fn method_settings(
    kind: MethodKind,
    [weight_bits, activation_bits]: [u8; 2],
    groups: usize,
) -> MethodSettings {
    match kind {
        MethodKind::Redistribution => MethodSettings::Redistribution(Redistribution {
            bits: activation_bits,
            groups,
            weight_clamp: true,
        }),
        MethodKind::Reconstruction => {
            MethodSettings::Reconstruction(Reconstruction::new(weight_bits, activation_bits))
        }
        MethodKind::ActivationOriented => MethodSettings::ActivationOriented(ActivationOriented {
            weight_bits,
            activation_bits,
        }),
        MethodKind::SharedScale => MethodSettings::SharedScale(SharedScale {
            bits: activation_bits,
        }),
    }
}
