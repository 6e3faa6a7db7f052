//! The images that the engine takes.

use std::borrow::Cow;

use addernet_graph::Preprocessing;

use crate::error::EngineError;

/// Images as a slice: N images of height x width x channels, one behind the other.
///
/// Implemented for `[u8]`, pixels as they are, and for `[f32]`, values as the network was trained
/// on, (pixel/255 − mean)/std, which are turned back into the nearest pixels.
pub trait Images: sealed::Images + Sync {}

impl Images for [u8] {}
impl Images for [f32] {}

pub(crate) mod sealed {
    use super::*;

    pub trait Images {
        /// Number of values.
        fn count(&self) -> usize;

        /// The pixels of image number `image`, of `len` values.
        fn pixels(
            &self,
            image: usize,
            len: usize,
            preprocessing: &Preprocessing,
        ) -> Result<Cow<'_, [u8]>, EngineError>;
    }

    impl Images for [u8] {
        fn count(&self) -> usize {
            self.len()
        }

        fn pixels(
            &self,
            image: usize,
            len: usize,
            _: &Preprocessing,
        ) -> Result<Cow<'_, [u8]>, EngineError> {
            Ok(Cow::Borrowed(&self[image * len..][..len]))
        }
    }

    impl Images for [f32] {
        fn count(&self) -> usize {
            self.len()
        }

        fn pixels(
            &self,
            image: usize,
            len: usize,
            preprocessing: &Preprocessing,
        ) -> Result<Cow<'_, [u8]>, EngineError> {
            let values = &self[image * len..][..len];
            if let Some(index) = values.iter().position(|v| !v.is_finite()) {
                return Err(EngineError::NonFinite { image, index });
            }
            let Preprocessing { mean, std } = preprocessing;
            let mut pixels = Vec::with_capacity(len);
            for pixel in values.chunks_exact(mean.len()) {
                for ((v, mean), std) in pixel.iter().zip(mean).zip(std) {
                    // Out of range, the cast saturates.
                    pixels.push(((v * std + mean) * 255.0).round_ties_even() as u8);
                }
            }
            Ok(Cow::Owned(pixels))
        }
    }
}
