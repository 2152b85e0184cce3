//! The background of a backbone, in the file next to it.

use std::{
    fs::File,
    io::{ErrorKind, Read as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use clr_adapters::Background;

use crate::{Backbone, OnnxError, Program};

/// Maximum bytes of a file.
const MOST_BYTES: u64 = 64 << 20;

impl Backbone {
    /// Returns the path of the background of a backbone in the file at `path`: the same name, ending in `.background`.
    pub fn background_path(path: &Path) -> PathBuf {
        path.with_extension("background")
    }

    /// Returns the background: coordinates of images in general, to which the feature profiles of tasks are relative.
    pub fn background(&self) -> Option<&Arc<Background>> {
        self.background.as_ref()
    }

    /// Returns the backbone with this background.
    ///
    /// # Errors
    /// [`OnnxError::Background`] if it belongs to another backbone.
    pub fn with_background(mut self, background: Background) -> Result<Self, OnnxError> {
        self.set_background("the background", background)?;
        Ok(self)
    }

    fn set_background(&mut self, origin: &str, background: Background) -> Result<(), OnnxError> {
        let refused = |reason: String| OnnxError::Background {
            origin: origin.to_owned(),
            reason,
        };
        let (expected, got) = (self.digest(), background.backbone());
        if expected != got {
            return Err(refused(format!(
                "it belongs to the backbone {}, expected {}",
                got.short(),
                expected.short()
            )));
        }
        let preprocessing = self.preprocessing();
        let size = [preprocessing.height as usize, preprocessing.width as usize];
        let (expected, got) = (Program::lower(self, size)?.block_statistics(), background.statistics());
        if expected != got {
            return Err(refused(format!("{got} block statistics, expected {expected}")));
        }
        self.background = Some(Arc::new(background));
        Ok(())
    }

    /// Adds the background in the file next to that of the backbone at `path`, if there is one.
    ///
    /// # Errors
    /// [`OnnxError::Background`] if it cannot be read, is damaged or belongs to another backbone, which then stays without
    /// one.
    pub fn add_background_next_to(&mut self, path: &Path) -> Result<(), OnnxError> {
        let path = Self::background_path(path);
        let origin = path.display().to_string();
        let refused = |reason: &dyn std::fmt::Display| OnnxError::Background {
            origin: origin.clone(),
            reason: reason.to_string(),
        };
        let mut bytes = Vec::new();
        match File::open(&path).and_then(|file| file.take(MOST_BYTES).read_to_end(&mut bytes)) {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(refused(&error)),
        }
        let background = Background::decode(&bytes).map_err(|error| refused(&error))?;
        self.set_background(&origin, background)
    }
}

#[cfg(test)]
mod tests {
    use clr_adapters::{Digest, Moments};

    use super::*;
    use crate::{Architecture, seeded_backbone};

    fn background(of: Digest, statistics: usize) -> Background {
        let moments = |_: &dyn Fn(&[f32]) -> Vec<f32>| Moments {
            mean: vec![0.0],
            variance: vec![1.0],
            within: vec![1.0],
        };
        Background::new(of, &[vec![1.0; statistics]], moments).unwrap()
    }

    #[test]
    fn the_background_next_to_a_backbone_is_read_with_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("net.onnx");
        let backbone = seeded_backbone(Architecture::MobileNetV2, 1, 3);
        backbone.save(&path).unwrap();
        assert!(Backbone::load(&path).unwrap().background().is_none());
        let statistics = 2 * [16, 24, 32, 64, 96, 160, 320].iter().sum::<usize>();
        let background = background(backbone.digest(), statistics);
        std::fs::write(Backbone::background_path(&path), background.encode()).unwrap();
        let loaded = Backbone::load(&path).unwrap();
        assert_eq!(loaded.background().map(|found| found.id()), Some(background.id()));
        assert_eq!(loaded, backbone);
    }

    #[test]
    fn a_background_that_does_not_fit_is_refused_with_its_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("net.onnx");
        let backbone = seeded_backbone(Architecture::MobileNetV2, 1, 3);
        backbone.save(&path).unwrap();
        for (bytes, part) in [
            (
                background(Digest([7; 32]), 1424).encode(),
                "it belongs to the backbone 070707",
            ),
            (
                background(backbone.digest(), 10).encode(),
                "10 block statistics, expected 1424",
            ),
            (b"text".to_vec(), "not a background"),
        ] {
            std::fs::write(Backbone::background_path(&path), bytes).unwrap();
            let error = Backbone::load(&path).unwrap_err().to_string();
            assert!(error.contains("net.background") && error.contains(part), "{error}");
            assert!(error.contains("hint: "), "{error}");
        }
    }
}
