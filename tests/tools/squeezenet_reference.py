"""Logits of SqueezeNet 1.1 in PyTorch, for the tests of `clr fetch squeezenet`.

    python tests/tools/squeezenet_reference.py                    numbers for host-tools/fetch/src/squeezenet/tests.rs
    python tests/tools/squeezenet_reference.py PICKLE IMAGE...    top 5 of each image with the weights of the package, as
        clr classify -b squeezenet.onnx --adapter squeezenet.original.clr --top 5 IMAGE...

The tests use hashed weights, so that they need no package. Needs: numpy, torch; Pillow for the second form.
"""

import pickle
import sys

import numpy
import torch
from PIL import Image
from torch.nn import functional

FIRES = {2: (16, 64), 3: (16, 64), 4: (32, 128), 5: (32, 128), 6: (48, 192), 7: (48, 192), 8: (64, 256), 9: (64, 256)}


def shapes():
    """Kernel shapes [kh, kw, I, O] in the order of the network."""
    found, channels = {"conv1": (3, 3, 3, 64)}, 64
    for number, (squeezed, expanded) in FIRES.items():
        found[f"fire{number}/squeeze1x1"] = (1, 1, channels, squeezed)
        found[f"fire{number}/expand1x1"] = (1, 1, squeezed, expanded)
        found[f"fire{number}/expand3x3"] = (3, 3, squeezed, expanded)
        channels = 2 * expanded
    return found | {"conv10": (1, 1, channels, 1000)}


def hashed(count, seed, scale):
    """Values in ±scale/2 from a 32-bit hash of the index, exact in float32 up to the last product."""
    x = (numpy.arange(count, dtype=numpy.uint64) * 2654435761 + seed * 40503) & 0xFFFFFFFF
    x ^= x >> 15
    x = (x * 0x85EBCA6B) & 0xFFFFFFFF
    x ^= x >> 13
    return ((x >> 8).astype(numpy.float32) / numpy.float32(2**24) - numpy.float32(0.5)) * numpy.float32(scale)


def hashed_weights():
    weights = {}
    for index, (name, shape) in enumerate(shapes().items()):
        scale = 4.0 / numpy.sqrt(numpy.float32(shape[0] * shape[1] * shape[2]))
        kernel = hashed(int(numpy.prod(shape)), 2 * index, scale).reshape(shape)
        weights[name] = [kernel, hashed(shape[3], 2 * index + 1, 0.1)]
    return weights


def same(x, side, stride):
    """TensorFlow's SAME padding: the odd pixel is below and on the right."""
    pads = []
    for size in (x.shape[3], x.shape[2]):
        total = max((-(-size // stride) - 1) * stride + side - size, 0)
        pads += [total // 2, total - total // 2]
    return functional.pad(x, pads)


class SqueezeNet(torch.nn.Module):
    def __init__(self, weights):
        super().__init__()
        self.weights = {
            name: (torch.tensor(kernel).permute(3, 2, 0, 1).contiguous(), torch.tensor(bias))
            for name, (kernel, bias) in weights.items()
        }

    def convolution(self, name, x, stride=1):
        kernel, bias = self.weights[name]
        return functional.relu(functional.conv2d(same(x, kernel.shape[2], stride), kernel, bias, stride))

    def forward(self, x):
        x = functional.max_pool2d(self.convolution("conv1", x, 2), 3, 2)
        for number in FIRES:
            squeezed = self.convolution(f"fire{number}/squeeze1x1", x)
            parts = [self.convolution(f"fire{number}/expand{side}", squeezed) for side in ("1x1", "3x3")]
            x = torch.cat(parts, 1)
            if number in (3, 5):
                x = functional.max_pool2d(x, 3, 2)
        # The original order: the classifier, then the average.
        kernel, bias = self.weights["conv10"]
        return functional.conv2d(x, kernel, bias).mean((2, 3))


class Arrays(pickle.Unpickler):
    """Reads NumPy arrays only."""

    def find_class(self, module, name):
        if (module, name) == ("numpy.core.multiarray", "_reconstruct"):
            return numpy._core.multiarray._reconstruct
        if module == "numpy" and name in ("ndarray", "dtype"):
            return getattr(numpy, name)
        raise pickle.UnpicklingError(f"{module}.{name}")


def photo(path):
    """Shorter side to 256, centre crop of 227 × 227, BGR, 0 to 255 minus the mean."""
    image = Image.open(path).convert("RGB")
    scale = 256 / min(image.size)
    image = image.resize([round(side * scale) for side in image.size], Image.BILINEAR)
    left, top = (image.width - 227) // 2, (image.height - 227) // 2
    pixels = numpy.asarray(image.crop((left, top, left + 227, top + 227)), numpy.float32)[:, :, ::-1]
    return torch.tensor((pixels - numpy.float32([103.939, 116.779, 123.68])).transpose(2, 0, 1)[None].copy())


def main():
    torch.set_grad_enabled(False)
    if sys.argv[1:]:
        with open(sys.argv[1], "rb") as file:
            network = SqueezeNet(Arrays(file).load())
        for path in sys.argv[2:]:
            top = network(photo(path))[0].softmax(0).topk(5)
            print(path, [(int(index), round(float(value), 3)) for value, index in zip(*top)])
        return
    network = SqueezeNet(hashed_weights())
    # 96 is even, so that the padding of the first convolution is asymmetric.
    for size in (96, 227):
        image = torch.tensor(hashed(3 * size * size, 99, 200.0).reshape(1, 3, size, size))
        logits = network(image)[0]
        print(size, [round(float(value), 5) for value in logits[::125]], "largest", float(logits.abs().max()))


main()
