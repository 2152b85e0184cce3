//! Unsupported features: the hint gives a conversion that has been tested.

use super::*;

#[test]
fn unsupported_jpeg_features_are_reported_with_a_working_hint() {
    let good = jpeg(&scene(40, 30));
    let frame = good
        .windows(2)
        .position(|marker| marker == [0xff, 0xc0])
        .expect("a baseline frame");
    for (at, value, feature, way) in [
        (4, 12, "12 bits per sample", "imagecodecs"),
        (1, 0xc3, "lossless", "from PIL import Image"),
        (1, 0xc9, "arithmetic coding", "from PIL import Image"),
        (9, 2, "2 components", "save it again"),
    ] {
        let mut bytes = good.clone();
        bytes[frame + at] = value;
        let error = decode_within(DecodeLimits::HOST, &bytes, &[]).unwrap_err().to_string();
        let (what, hint) = error.split_once("\nhint: ").expect("a hint");
        assert!(what.contains(feature) && hint.contains(way), "{error}");
    }
}
