"""Compares preprocessing with Pillow and torchvision on generated images.

    pip install torch torchvision pillow numpy
    cargo build --release -p clr-onnx --example preprocess
    python tests/tools/torch_preprocess.py target/release/examples/preprocess

Prints, per preset, fit and image size, the largest and the mean difference in units of 1/255. Pixels are equal (pillow_resampling.py tries many more
sizes); what is left is the rounding of the normalisation. Exits with 1 if a largest difference exceeds 0.01.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

import numpy
from PIL import Image
from torchvision import transforms
from torchvision.transforms import InterpolationMode

PRESETS = {
    "imagenet": (224 / 0.875, InterpolationMode.BILINEAR, [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]),
    "lite": (224 + 32, InterpolationMode.BICUBIC, [127.0] * 3, [128.0] * 3),
}


def random_image(width, height):
    """Smooth waves, hard edges and noise."""
    random = numpy.random.default_rng(width * height)
    y, x = numpy.mgrid[0:height, 0:width]
    waves = 127 + 100 * numpy.sin(x / 9) * numpy.cos(y / 13)
    edges = numpy.where((x // 17 + y // 11) % 2 == 0, 255, 0)
    return Image.fromarray(numpy.stack([waves, edges, random.integers(0, 256, (height, width))], 2).astype(numpy.uint8))


def main():
    binary = str(Path(sys.argv[1]).resolve())
    worst = 0.0
    for width, height in [(640, 480), (333, 500), (1601, 1200), (96, 64), (224, 224), (225, 223)]:
        image = random_image(width, height)
        for preset, (resized, interpolation, mean, std) in PRESETS.items():
            for fit in ("crop", "stretch"):
                if fit == "crop":
                    steps = [transforms.Resize(round(resized), interpolation), transforms.CenterCrop(224)]
                else:
                    steps = [transforms.Resize((224, 224), interpolation)]
                expected = numpy.asarray(transforms.Compose(steps)(image)).transpose(2, 0, 1).astype(numpy.float32)
                with tempfile.TemporaryDirectory() as folder:
                    source, target = Path(folder) / "image.png", Path(folder) / "tensor"
                    image.save(source)
                    subprocess.run([binary, preset, fit, source, target], check=True)
                    got = numpy.fromfile(target, "<f4").reshape(3, 224, 224)
                column = lambda values: numpy.array(values, numpy.float32)[:, None, None]
                difference = numpy.abs(got * column(std) + column(mean) - expected)
                worst = max(worst, float(difference.max()))
                print(f"{preset:<9} {fit:<8} {width:>4} x {height:<5} max {difference.max():.2f}  mean {difference.mean():.4f}")
    sys.exit(0 if worst < 0.01 else 1)


if __name__ == "__main__":
    main()
