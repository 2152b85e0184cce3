#!/usr/bin/env python3
"""Times PyTorch on the shapes of `cargo bench -p clr-training --bench ops`, and one whole ResNet-18 step of the `clr` recipe.

    python tests/tools/torch_ops.py [--threads 2]

Each line: operator, shape, milliseconds of wall time and of CPU time over all threads (best of some runs). CPU time is what to compare on a
machine that is not quiet. Frozen weights have no gradient; the step trains CLR kernels, norms and head.
"""

import argparse
import resource
import time

import torch
import torch.nn as nn
import torch.nn.functional as F

parser = argparse.ArgumentParser()
parser.add_argument("--threads", type=int, default=2)
parser.add_argument("--step-only", action="store_true")
arguments = parser.parse_args()
torch.set_num_threads(arguments.threads)
BATCH = 16


def best(work, runs=7):
    work()
    wall, cpu = [], []
    for _ in range(runs):
        w, c = time.perf_counter(), time.process_time()
        work()
        wall.append(time.perf_counter() - w)
        cpu.append(time.process_time() - c)
    return f"{min(wall) * 1e3:9.1f} ms wall {min(cpu) * 1e3:9.1f} ms cpu"


def both(make):
    def run():
        y = make()
        y.backward(torch.ones_like(y))

    return run


if not arguments.step_only:
    for c, size in [(64, 56), (256, 28)]:
        x = torch.rand(BATCH, c, size, size, requires_grad=True)
        k = torch.rand(c, 1, 3, 3, requires_grad=True)
        print(f"depthwise 3x3 {c}x{size}x{size} fwd+bwd   ", best(both(lambda: F.conv2d(x, k, padding=1, groups=c))))
    for c, size in [(64, 112), (64, 56), (128, 28), (256, 14), (512, 7)]:
        x = torch.rand(BATCH, c, size, size, requires_grad=True)
        k, s, b = (torch.rand(shape, requires_grad=True) for shape in [(c, 1, 3, 3), (c,), (c,)])
        print(f"site (depthwise+bias+relu) {c}x{size} fwd+bwd", best(both(lambda: F.relu(F.conv2d(x, k, b, padding=1, groups=c)))))
        site = lambda: F.relu(F.batch_norm(F.conv2d(x, k, padding=1, groups=c), None, None, s, b, training=True))
        print(f"clr batch norm {c}x{size} fwd+bwd", best(both(site)))
    for c, size, o, kernel, stride in [(3, 224, 64, 7, 2), (64, 56, 64, 3, 1), (64, 56, 128, 3, 2), (64, 56, 128, 1, 2),
                                       (128, 28, 128, 3, 1), (256, 28, 256, 3, 1), (256, 14, 256, 3, 1), (512, 7, 512, 3, 1)]:
        weight = torch.rand(o, c, kernel, kernel)
        x = torch.rand(BATCH, c, size, size)
        run = lambda: F.conv2d(x, weight, stride=stride, padding=kernel // 2)
        with torch.no_grad():
            print(f"conv {kernel}x{kernel}/{stride} {c}x{size} to {o} forward", best(run))
        if c > 3:
            x.requires_grad_()
            print(f"conv {kernel}x{kernel}/{stride} {c}x{size} to {o} fwd+bwd", best(both(run)))


class Site(nn.Module):
    """Frozen convolution, CLR layer (behind k > 1), trained norm."""

    def __init__(self, i, o, k, stride):
        super().__init__()
        self.conv = nn.Conv2d(i, o, k, stride, k // 2, bias=False).requires_grad_(False)
        self.clr = nn.Conv2d(o, o, 3, padding=1, groups=o, bias=False) if k > 1 else nn.Identity()
        self.norm = nn.BatchNorm2d(o)

    def forward(self, x):
        return self.norm(self.clr(self.conv(x)))


class Block(nn.Module):
    def __init__(self, i, o, stride):
        super().__init__()
        self.a, self.b = Site(i, o, 3, stride), Site(o, o, 3, 1)
        self.down = Site(i, o, 1, stride) if stride > 1 or i != o else nn.Identity()

    def forward(self, x):
        return F.relu(self.b(F.relu(self.a(x))) + self.down(x))


net = nn.Sequential(
    Site(3, 64, 7, 2), nn.ReLU(), nn.MaxPool2d(3, 2, 1),
    Block(64, 64, 1), Block(64, 64, 1), Block(64, 128, 2), Block(128, 128, 1),
    Block(128, 256, 2), Block(256, 256, 1), Block(256, 512, 2), Block(512, 512, 1),
    nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, 10),
)
for size in [96, 224]:
    image, target = torch.rand(BATCH, 3, size, size), torch.randint(10, (BATCH,))

    def step():
        net.zero_grad()
        F.cross_entropy(net(image), target).backward()

    net.train()
    print(f"ResNet-18 clr step, batch norm, {size} px", best(step, 5))
    net.eval()
    print(f"ResNet-18 clr step, fixed statistics, {size} px", best(step, 5))
    print(f"peak resident memory so far {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB")
