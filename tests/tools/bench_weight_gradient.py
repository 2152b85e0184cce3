"""Gradient of a convolution's weight: this project and PyTorch, in turns.

    python tests/tools/bench_weight_gradient.py target/release/examples/weight_gradient_timing --threads 1 --rounds 5

The shapes are those of ResNet-18 at 224 px in batches of 16, and some of EfficientNet-Lite0 at 96 px. One line per shape: the fastest
time of each, in milliseconds, and their ratio.

Needs: torch.
"""

import argparse
import subprocess
import time

import torch

# Name, images, input channels, output channels, groups, kernel, stride, size of the input.
SHAPES = [
    ("ResNet-18 stem", 16, 3, 64, 1, 7, 2, 224),
    ("ResNet-18 64→64, 56 px", 16, 64, 64, 1, 3, 1, 56),
    ("ResNet-18 64→128, stride 2", 16, 64, 128, 1, 3, 2, 56),
    ("ResNet-18 64→128, shortcut", 16, 64, 128, 1, 1, 2, 56),
    ("ResNet-18 128→128, 28 px", 16, 128, 128, 1, 3, 1, 28),
    ("ResNet-18 128→256, stride 2", 16, 128, 256, 1, 3, 2, 28),
    ("ResNet-18 256→256, 14 px", 16, 256, 256, 1, 3, 1, 14),
    ("ResNet-18 256→512, stride 2", 16, 256, 512, 1, 3, 2, 14),
    ("ResNet-18 512→512, 7 px", 16, 512, 512, 1, 3, 1, 7),
    ("Lite0 96→24, 24 px", 16, 96, 24, 1, 1, 1, 24),
    ("Lite0 480→112, 6 px", 16, 480, 112, 1, 1, 1, 6),
    ("Lite0 1152→320, 3 px", 16, 1152, 320, 1, 1, 1, 3),
    ("Lite0 depthwise 144, 24 px", 16, 144, 144, 144, 3, 1, 24),
    ("Lite0 depthwise 672, 6 px", 16, 672, 672, 672, 5, 1, 6),
    ("groups of 8, 144, 24 px, 3×3", 16, 144, 144, 18, 3, 1, 24),
    ("groups of 8, 672, 6 px, 3×3", 16, 672, 672, 84, 3, 1, 6),
    ("groups of 16, 672, 6 px, 1×1", 16, 672, 672, 42, 1, 1, 6),
]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("program", help="the example weight_gradient_timing")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    ours = subprocess.Popen([arguments.program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    ratios = []
    for name, *numbers in SHAPES:
        images, inputs, outputs, groups, kernel, stride, size = numbers
        x = torch.randn(images, inputs, size, size)
        w = torch.randn(outputs, inputs // groups, kernel, kernel)
        options = (None, [stride] * 2, [kernel // 2] * 2, [1, 1], False, [0, 0], groups)
        dy = torch.ones_like(torch.convolution(x, w, *options))
        times = {"ours": [], "torch": []}
        for _ in range(arguments.rounds):
            print(arguments.threads, 5, *numbers, file=ours.stdin, flush=True)
            times["ours"].append(float(ours.stdout.readline()))
            for _ in range(5):
                start = time.perf_counter()
                torch.ops.aten.convolution_backward(dy, x, w, *options, [False, True, False])
                times["torch"].append(1e3 * (time.perf_counter() - start))
        ours_ms, torch_ms = min(times["ours"]), min(times["torch"])
        ratios.append(ours_ms / torch_ms)
        print(f"{name}\t{ours_ms:.2f}\t{torch_ms:.2f}\t{ratios[-1]:.2f}", flush=True)
    resnet = [ratio for (name, *_), ratio in zip(SHAPES, ratios) if name.startswith("ResNet")]
    print(f"largest ratio on ResNet-18\t{max(resnet):.2f}")
    ours.stdin.close()
    ours.wait()


main()
