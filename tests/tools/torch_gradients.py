#!/usr/bin/env python3
"""Values and gradients of the training operators in PyTorch, for host-tools/training/tests/ops/torch.rs.

    python tests/tools/torch_gradients.py > host-tools/training/tests/fixtures/torch_gradients.json

Inputs are not stored: both sides make them with the same generator (`values`), exact in f32. The loss is the sum of the result
weighted by such values.
"""

import json
import sys

import torch
import torch.nn.functional as F


def values(count, seed):
    """`count` values in [-1, 1), exact multiples of 2^-23."""
    out, state = [], (seed * 2654435761 + 1) % 2**32
    for _ in range(count):
        state = (state * 1664525 + 1013904223) % 2**32
        out.append((state >> 8) / 2**23 - 1)
    return out


def tensor(shape, seed, scale=1.0):
    count = 1
    for size in shape:
        count *= size
    x = torch.tensor(values(count, seed), dtype=torch.float32).reshape(shape) * scale
    return x.requires_grad_()


ACTIVATIONS = {
    "none": lambda x: x,
    "relu": F.relu,
    "relu6": F.relu6,
    "leaky": lambda x: F.leaky_relu(x, 0.1),
    "sigmoid": torch.sigmoid,
    "hard-sigmoid": lambda x: F.hardsigmoid(x),
    "hard-swish": F.hardswish,
    "silu": F.silu,
}

CASES = []


def case(op, x, result, gradients, **parameters):
    weights = tensor(result.shape, 99).detach()
    (result * weights).sum().backward()
    short = lambda t: [float(f"{v:.5g}") for v in t.detach().flatten().tolist()]
    CASES.append({
        "op": op,
        "input": list(x.shape),
        **parameters,
        "output": list(result.shape),
        "values": short(result),
        "gradients": {name: short(t.grad) for name, t in gradients.items()},
    })


# input, outputs, group, kernel, stride, dilation, pads (top, left, bottom, right)
for shape, outputs, group, kernel, stride, dilation, pads in [
    ([2, 3, 9, 8], 4, 1, [3, 3], [1, 1], [1, 1], [1, 1, 1, 1]),
    ([1, 16, 7, 9], 16, 1, [3, 3], [1, 1], [1, 1], [1, 1, 1, 1]),
    ([2, 16, 5, 4], 17, 1, [3, 3], [1, 1], [1, 1], [0, 1, 1, 2]),
    ([2, 3, 9, 8], 5, 1, [3, 3], [2, 2], [1, 1], [1, 1, 1, 1]),
    ([1, 3, 13, 12], 4, 1, [7, 7], [2, 2], [1, 1], [3, 3, 3, 3]),
    ([2, 5, 4, 3], 6, 1, [1, 1], [1, 1], [1, 1], [0, 0, 0, 0]),
    ([2, 4, 7, 6], 6, 1, [1, 1], [2, 2], [1, 1], [0, 0, 0, 0]),
    ([1, 4, 8, 9], 6, 2, [3, 3], [1, 1], [1, 1], [1, 1, 1, 1]),
    ([1, 2, 9, 8], 3, 1, [3, 3], [1, 1], [2, 2], [2, 2, 2, 2]),
    ([1, 3, 9, 8], 3, 3, [3, 3], [1, 1], [1, 1], [1, 1, 1, 1]),
    ([1, 3, 9, 8], 3, 3, [3, 3], [2, 2], [1, 1], [0, 0, 1, 1]),
    ([1, 3, 9, 8], 3, 3, [5, 5], [2, 2], [1, 1], [1, 2, 2, 2]),
    ([1, 2, 6, 9], 4, 2, [1, 5], [1, 2], [1, 1], [0, 2, 0, 2]),
]:
    x = tensor(shape, 1)
    weight = tensor([outputs, shape[1] // group, *kernel], 2).detach()
    top, left, bottom, right = pads
    y = F.conv2d(F.pad(x, (left, right, top, bottom)), weight, stride=stride, dilation=dilation, groups=group)
    case("conv", x, y, {"x": x}, outputs=outputs, group=group, kernel=kernel, stride=stride, dilation=dilation, pads=pads)

for name, act in ACTIVATIONS.items():
    shape = [2, 3, 5, 4] if name != "relu" else [1, 3, 7, 18]
    c = shape[1]
    x, kernel, bias = tensor(shape, 1, 2.0), tensor([c, 1, 3, 3], 2), tensor([c], 3)
    case("site", x, act(F.conv2d(x, kernel, bias, padding=1, groups=c)), {"x": x, "kernel": kernel, "bias": bias}, activation=name)
    x, scale, bias = tensor(shape, 1, 4.0), tensor([c], 2), tensor([c], 3)
    y = act(x * scale.reshape(1, c, 1, 1) + bias.reshape(1, c, 1, 1))
    case("scale", x, y, {"x": x, "scale": scale, "bias": bias}, activation=name)
    x = tensor(shape, 1, 5.0)
    case("activation", x, act(x), {"x": x}, activation=name)

for name in ["none", "relu", "silu"]:
    shape, c = [3, 3, 5, 4], 3
    x, gamma, beta = tensor(shape, 1, 2.0), tensor([c], 2), tensor([c], 3)
    y = ACTIVATIONS[name](F.batch_norm(x, None, None, gamma, beta, training=True, eps=1e-3))
    case("norm", x, y, {"x": x, "gamma": gamma, "beta": beta}, activation=name)
    x, kernel, gamma, beta = tensor(shape, 1, 2.0), tensor([c, 1, 3, 3], 4), tensor([c], 2), tensor([c], 3)
    y = F.conv2d(x, kernel, padding=1, groups=c)
    y = ACTIVATIONS[name](F.batch_norm(y, None, None, gamma, beta, training=True, eps=1e-3))
    case("site-norm", x, y, {"x": x, "kernel": kernel, "gamma": gamma, "beta": beta}, activation=name)

x, slope = tensor([2, 3, 4, 5], 1), tensor([3], 2)
case("prelu", x, F.prelu(x, slope), {"x": x, "slope": slope})

for shape, kernel, stride, pad, ceil in [
    ([2, 3, 9, 8], 3, 2, 1, False),
    ([1, 2, 8, 8], 2, 2, 0, False),
    ([1, 2, 9, 10], 3, 2, 0, True),
    ([1, 2, 7, 7], 3, 1, 1, False),
    ([1, 2, 10, 11], 3, 3, 1, True),
]:
    x = tensor(shape, 1)
    parameters = {"kernel": [kernel] * 2, "stride": [stride] * 2, "pads": [pad] * 4, "ceil": ceil}
    case("max", x, F.max_pool2d(x, kernel, stride, pad, ceil_mode=ceil), {"x": x}, **parameters)
    for count in [False, True]:
        x = tensor(shape, 1)
        y = F.avg_pool2d(x, kernel, stride, pad, ceil_mode=ceil, count_include_pad=count)
        case("average", x, y, {"x": x}, count=count, **parameters)

x = tensor([2, 3, 5, 7], 1)
case("global", x, F.adaptive_avg_pool2d(x, 1), {"x": x})

print("PyTorch", torch.__version__, len(CASES), "cases", file=sys.stderr)
print("[\n" + ",\n".join(json.dumps(entry, separators=(",", ":")) for entry in CASES) + "\n]")
