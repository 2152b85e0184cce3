"""Compares the resizing of images with Pillow and torchvision, bit for bit.

    pip install pillow torch torchvision numpy
    cargo build --release -p clr-onnx --example fit
    python tests/tools/pillow_resampling.py target/release/examples/fit [--count 300] [--seed 1]

Sizes are drawn at random: smaller and larger than the input, one pixel wide or high, extreme ratios, unchanged. High images are among them: where the
height shrinks by more than twice as many pixels as the width, Pillow 13 takes the vertical pass first; older versions do so only beyond 100 to 1,
so that with them bytes differ there. Each image (noise, edges or waves) is stretched, which must be `Image.resize`, or resized and cut, which must be
torchvision's `Resize` and `CenterCrop` on the Pillow image; bilinear and bicubic. Large PNG files whose sides are multiples of the factor are read reduced as well,
which must be `Image.reduce` by that factor, then `Image.resize`. Prints how many of each kind were compared and how many bytes differ; exits with 1 if one does.
`--golden` prints the digests that onnx/src/preprocess/resample/tests.rs holds.
"""

import argparse
import collections
import hashlib
import pathlib
import random
import subprocess
import sys
import tempfile

import numpy
import PIL
from PIL import Image
from torchvision.transforms import InterpolationMode, functional

FILTERS = {"bilinear": (Image.Resampling.BILINEAR, InterpolationMode.BILINEAR), "bicubic": (Image.Resampling.BICUBIC, InterpolationMode.BICUBIC)}
# Width and height of the source and of the result.
GOLDEN = [((97, 61), (24, 17)), ((13, 9), (40, 31)), ((1, 1), (5, 3)), ((3, 400), (8, 60)), ((300, 2), (7, 33)), ((2, 640), (3, 50)), ((41, 300), (19, 23))]


def drawn(width, height):
    """Bytes from a linear congruential generator, blocks of them black or white: the same as in the Rust tests."""
    state, values = 1, []
    for index in range(3 * width * height):
        state = (state * 1664525 + 1013904223) % 2**32
        values.append(255 * (index & 1) if index % 97 < 30 else state >> 24)
    return Image.fromarray(numpy.array(values, numpy.uint8).reshape(height, width, 3))


def golden():
    print(f"Pillow {PIL.__version__}")
    for source, target in GOLDEN:
        image = drawn(*source)
        digests = [hashlib.sha256(image.resize(target, FILTERS[name][0]).tobytes()).hexdigest()[:12] for name in ("bilinear", "bicubic")]
        print(f"    ({list(source)}, {list(target)}, \"{digests[0]} {digests[1]}\"),")


def image_of(size, kind, generator):
    width, height = size
    noise = generator.integers(0, 256, (height, width, 3), numpy.uint8)
    if kind == "noise":
        return Image.fromarray(noise)
    y, x = numpy.mgrid[0:height, 0:width]
    if kind == "edges":
        return Image.fromarray(numpy.where(((x // 7 + y // 5) % 2 == 0)[:, :, None], 255, 0).astype(numpy.uint8).repeat(3, 2))
    waves = 127 + 100 * numpy.sin(x / 9) * numpy.cos(y / 13)
    return Image.fromarray((waves[:, :, None] + noise % 16).astype(numpy.uint8))


def size_of(kind, pick):
    side = lambda low, high: round(2 ** pick.uniform(numpy.log2(low), numpy.log2(high)))
    match kind:
        case "usual":
            return [side(60, 1500), side(60, 1500)], [side(16, 400), side(16, 400)]
        case "enlarged":
            return [side(2, 60), side(2, 60)], [side(60, 400), side(60, 400)]
        case "one pixel":
            sizes = [[side(1, 900), side(1, 900)], [side(1, 300), side(1, 300)]]
            sizes[pick.randrange(2)][pick.randrange(2)] = 1
            return sizes
        case "extreme":
            sides = [side(1, 9), side(500, 5000)]
            pick.shuffle(sides)
            return sides, [side(1, 300), side(1, 300)]
        case "unchanged":
            size = [side(1, 300), side(1, 300)]
            return size, size
        case "reduced":
            factor, target = pick.choice([2, 4, 8]), [side(8, 40), side(8, 40)]
            least = [-(-3 * factor * side // factor) * factor for side in target]
            return [least[0] + factor * pick.randrange(9), least[1] + factor * pick.randrange(9)], target


def expected(image, target, fit, name, reduced):
    pillow, torch = FILTERS[name]
    if reduced:
        ratio = min(source / side for source, side in zip(image.size, target))
        image = image.reduce(next(factor for factor in (8, 4, 2, 1) if ratio >= 3 * factor or factor == 1))
    if fit == "stretch":
        return image.resize(target, pillow)
    # The side that decides is `target / fraction`, rounded; torchvision scales the shorter one, so the cut is square here.
    side = target[0]
    return functional.center_crop(functional.resize(image, round(side / float(fit)), torch), side)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("fit", nargs="?", default="target/release/examples/fit")
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--golden", action="store_true")
    arguments = parser.parse_args()
    if arguments.golden:
        return golden()
    pick, generator = random.Random(arguments.seed), numpy.random.default_rng(arguments.seed)
    kinds = ["usual", "usual", "enlarged", "one pixel", "extreme", "unchanged", "reduced"]
    compared, different = collections.Counter(), collections.Counter()
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        jobs, lines = [], []
        for index in range(arguments.count):
            kind = kinds[index % len(kinds)]
            (source, target), name = size_of(kind, pick), pick.choice(list(FILTERS))
            cut = kind != "reduced" and pick.random() < 0.5
            if cut:
                target = [target[0], target[0]]
            fit = pick.choice(["0.875", "0.95", "1.0", "0.5"]) if cut else "stretch"
            image = image_of(source, pick.choice(["noise", "edges", "waves"]), generator)
            file, out = folder / f"{index}.png", folder / f"{index}.rgb"
            image.save(file)
            read = "REDUCED" if kind == "reduced" else "FULL"
            lines.append(f"{target[0]} {target[1]} {fit} {name} {read} {file} {out}\n")
            jobs.append((kind, source, target, fit, name, image, out))
        subprocess.run([arguments.fit], input="".join(lines), text=True, check=True)
        for kind, source, target, fit, name, image, out in jobs:
            want = expected(image, target, fit, name, kind == "reduced").tobytes()
            got = out.read_bytes()
            bytes_off = sum(a != b for a, b in zip(want, got)) + abs(len(want) - len(got))
            group = f"{kind}, {'resized and cut' if fit != 'stretch' else 'stretched'}, {name}"
            compared[group] += 1
            different[group] += bytes_off
            if bytes_off:
                print(f"{source} to {target}, {fit}, {name}: {bytes_off} of {len(want)} bytes differ")
    for group in sorted(compared):
        print(f"{group:<45} {compared[group]:>4} images  {different[group]} bytes differ")
    print(f"Pillow {PIL.__version__}: {sum(compared.values())} images, {sum(different.values())} bytes differ")
    sys.exit(1 if sum(different.values()) else 0)


if __name__ == "__main__":
    main()
