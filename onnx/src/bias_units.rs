//! Units of the biases of compact adapters, for a backbone whose norms are folded away.
//!
//! A compact file stores a bias as a multiple of |γ|, the deviation of the norm's output
//! ([`FoldedNorm`](clr_adapters::FoldedNorm)). A quantised backbone has no norms any more, so it keeps the magnitudes of the float backbone's.

use std::fmt::Write as _;

use half::f16;

use crate::SiteInfo;

/// |γ| of the norm that was folded into each site's convolution, `[C]` in f16; 1 where there was none.
#[derive(Clone, Debug, PartialEq)]
pub struct BiasUnits(Vec<Vec<f16>>);

impl BiasUnits {
    /// Rounds the magnitudes of `gammas`, one list for each site. Returns `None` if all are 1.
    pub(crate) fn new(gammas: &[Vec<f64>]) -> Option<Self> {
        let unit = |gamma: &f64| f16::from_f64(gamma.abs()).min(f16::MAX);
        let units: Vec<Vec<f16>> = gammas.iter().map(|site| site.iter().map(unit).collect()).collect();
        (units.iter().flatten().any(|&unit| unit != f16::ONE)).then_some(Self(units))
    }

    /// Returns the units of each site.
    pub(crate) fn sites(&self) -> &[Vec<f16>] {
        &self.0
    }

    /// Returns the magnitudes |γ| of a site, `[C]`.
    pub fn gamma(&self, site: usize) -> Vec<f64> {
        self.0[site].iter().map(|unit| unit.to_f64()).collect()
    }

    /// Checks that there is a unit for each channel of `sites`.
    pub(crate) fn check(&self, sites: &[SiteInfo]) -> Result<(), String> {
        if self.0.len() != sites.len() {
            return Err(format!(
                "expected bias units of {} sites, got {}",
                sites.len(),
                self.0.len()
            ));
        }
        for (site, units) in sites.iter().zip(&self.0) {
            if units.len() != site.channels {
                return Err(format!(
                    "site `{}`: expected {} bias units, got {}",
                    site.name,
                    site.channels,
                    units.len()
                ));
            }
        }
        Ok(())
    }

    /// Returns the text for a file: four hexadecimal digits for each unit, a space after each site.
    pub(crate) fn to_text(&self) -> String {
        let mut text = String::new();
        for (index, units) in self.0.iter().enumerate() {
            if index > 0 {
                text.push(' ');
            }
            for unit in units {
                // Writing to a string cannot fail.
                let _ = write!(text, "{:04x}", unit.to_bits());
            }
        }
        text
    }

    /// Reads [`BiasUnits::to_text`].
    pub(crate) fn from_text(text: &str) -> Result<Self, String> {
        let unit = |digits: &[u8]| {
            let digits = (digits.len() == 4 && digits.iter().all(u8::is_ascii_hexdigit)).then_some(digits);
            let bits = digits.and_then(|digits| str::from_utf8(digits).ok());
            let bits = bits.and_then(|digits| u16::from_str_radix(digits, 16).ok());
            bits.map(f16::from_bits)
                .filter(|unit| unit.is_finite() && !unit.is_sign_negative())
        };
        let site = |digits: &str| digits.as_bytes().chunks(4).map(unit).collect::<Option<Vec<f16>>>();
        let units: Option<_> = text.split(' ').map(site).collect();
        units
            .map(Self)
            .ok_or_else(|| "expected four hexadecimal digits of a finite f16 above or equal 0 for each unit".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_gives_the_same_units() {
        let units = BiasUnits::new(&[vec![1.0, -0.25, 3e-9], vec![1e9]]).unwrap();
        assert_eq!(units.to_text(), "3c0034000000 7bff");
        assert_eq!(BiasUnits::from_text(&units.to_text()), Ok(units));
    }

    #[test]
    fn units_of_one_are_left_out() {
        assert_eq!(BiasUnits::new(&[vec![1.0, -1.0], Vec::new()]), None);
    }

    #[test]
    fn damaged_texts_are_refused() {
        for text in ["3c0", "3c00,3c00", "7c00", "bc00", "+c00", "3c00 zz", "\u{e9}\u{e9}"] {
            assert!(BiasUnits::from_text(text).is_err(), "{text}");
        }
    }
}
