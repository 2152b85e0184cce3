"""Study of feature profiles for choosing the task: compares candidates on real tasks.

    python tests/tools/profile_study.py lite0.onnx tasks/ [--size 96]

Takes the backbone's pooled features of up to 600 training, 200 validation and 300 test images a task (plain resize, so results differ
a little from the decisive ones of `clr eval --auto`), and prints for nine tasks and for all: how often the right task scores highest, and the AUROC of
`unknown`, each task left out in turn. Needs numpy, onnx, onnxruntime and Pillow.
"""

import argparse
import os
import random

import numpy as np
import onnx
import onnxruntime
from PIL import Image

# Tasks with distinct images; the others are drawings of everything, or digits a second time.
DISTINCT = "climate dermoscopy digits emoji fashion furniture signs silhouettes solar-cells".split()
ALIKE = "clipart digits-sheet stamps".split()
DIMENSIONS = 120


def backbone(path):
    model = onnx.load(path)
    graph = model.graph
    flatten = next(node for node in graph.node if node.op_type == "Flatten")
    last = next(index for index, node in enumerate(graph.node) if node.op_type == "Gemm")
    del graph.node[last], graph.output[:], graph.value_info[:]
    graph.output.append(onnx.helper.make_tensor_value_info(flatten.output[0], 1, None))
    for axis, name in ((2, "height"), (3, "width")):
        graph.input[0].type.tensor_type.shape.dim[axis].dim_param = name
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model.SerializeToString(), options)


def features(session, folder, most, size):
    files = [(os.path.join(folder, c, f), i) for i, c in enumerate(sorted(os.listdir(folder))) for f in sorted(os.listdir(os.path.join(folder, c)))]
    random.Random(0).shuffle(files)
    rows, files = [], files[:most]
    for start in range(0, len(files), 32):
        batch = []
        for file, _ in files[start : start + 32]:
            image = Image.open(file).convert("RGBA")
            page = Image.new("RGBA", image.size, "white")
            page.alpha_composite(image)
            image = page.convert("RGB").resize((size, size), Image.BICUBIC)
            batch.append(((np.asarray(image, np.float32) - 127) / 128).transpose(2, 0, 1))
        rows.append(session.run(None, {session.get_inputs()[0].name: np.stack(batch)})[0])
    return np.concatenate(rows).astype(np.float64), np.array([label for _, label in files])


def roots(x):
    x = np.sign(x) * np.sqrt(np.abs(x))
    return x / np.linalg.norm(x, axis=1, keepdims=True) * np.sqrt(x.shape[1])


def sketches(dimensions):
    mask = (1 << 64) - 1
    def sign(index):
        z = ((index + 1) * 0x9E3779B97F4A7C15) & mask
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
        return 1.0 if (z ^ (z >> 31)) & 1 == 0 else -1.0
    def sketch(x):
        matrix = np.zeros((x.shape[1], dimensions))
        for index in range(x.shape[1]):
            matrix[index, index % dimensions] = sign(index)
        return roots(x) @ matrix
    return sketch


# Each candidate: transform, and fit(x, labels) -> function from rows to (distance, log volume), both per dimension.
def diagonal(x, _):
    mean, variance = x.mean(0), x.var(0)
    variance += 0.1 * variance.mean()
    return lambda z: (((z - mean) ** 2 / variance).mean(1), np.log(variance).mean())


def class_means(x, labels):
    means = np.stack([x[labels == c].mean(0) for c in np.unique(labels)])
    variance = sum(((x[labels == c] - x[labels == c].mean(0)) ** 2).sum(0) for c in np.unique(labels)) / len(x)
    variance += 0.1 * variance.mean()
    return lambda z: (np.stack([((z - m) ** 2 / variance).mean(1) for m in means]).min(0), np.log(variance).mean())


def prototypes(x, _, count=8):
    unit = lambda a: a / np.linalg.norm(a, axis=1, keepdims=True)
    x, centres = unit(x), unit(x)[np.random.default_rng(0).choice(len(x), count, replace=False)]
    for _ in range(20):
        nearest = (x @ centres.T).argmax(1)
        centres = unit(np.stack([x[nearest == c].mean(0) if (nearest == c).any() else centres[c] for c in range(count)]))
    return lambda z: (1 - (unit(z) @ centres.T).max(1), 0.0)


def low_rank(x, _, rank=8):
    mean, d = x.mean(0), x.shape[1]
    _, scales, ways = np.linalg.svd(x - mean, full_matrices=False)
    spectrum = scales**2 / len(x)
    rest = spectrum[rank:].sum() / (d - rank)
    volume = (np.log(spectrum[:rank]).sum() + (d - rank) * np.log(rest)) / d
    def of(z):
        inside = (z - mean) @ ways[:rank].T
        outside = ((z - mean) ** 2).sum(1) - (inside**2).sum(1)
        return ((inside**2 / spectrum[:rank]).sum(1) + outside / rest) / d, volume
    return of


def covariance(x):
    c = np.cov(x.T)
    return 0.8 * c + 0.2 * np.trace(c) / len(c) * np.eye(len(c))


def gaussian(mean, c):
    inverse, volume = np.linalg.inv(c), np.linalg.slogdet(c)[1] / len(c)
    return lambda z: (np.einsum("id,de,ie->i", z - mean, inverse, z - mean) / len(c), volume)


def full(x, _):
    return gaussian(x.mean(0), covariance(x))


def auroc(positive, negative):
    order = np.concatenate([positive, negative]).argsort()
    ranks = np.empty(len(order))
    ranks[order] = np.arange(1, len(order) + 1)
    return (ranks[: len(positive)].sum() - len(positive) * (len(positive) + 1) / 2) / (len(positive) * len(negative))


def judge(data, tasks, transform, fit, pooled=0.0, relative=False):
    x = {(t, s): transform(data[t, s][0]) for t in tasks for s in ("train", "val", "test")}
    own = {t: fit(x[t, "train"], data[t, "train"][1]) for t in tasks}
    score = dict(own)
    if pooled:
        shared = np.mean([covariance(x[t, "train"]) for t in tasks], axis=0)
        mix = lambda t: (1 - pooled) * covariance(x[t, "train"]) + pooled * shared
        score = {t: gaussian(x[t, "train"].mean(0), mix(t)) for t in tasks}
    typical = {t: np.quantile(own[t](x[t, "val"])[0], [0.5, 0.95]) for t in tasks}
    scores = {u: np.stack([sum(score[t](x[u, "test"])) for t in tasks], 1) for u in tasks}
    def strangeness(t, u):
        distance = own[t](x[u, "test"])[0]
        low, high = typical[t]
        return (np.log(distance) - np.log(low)) / (np.log(high) - np.log(low))
    strange = {u: np.stack([strangeness(t, u) for t in tasks], 1) for u in tasks}
    right = [(scores[u].argmin(1) == i).mean() for i, u in enumerate(tasks)]
    areas = []
    for left_out, stranger in enumerate(tasks):
        installed = [i for i in range(len(tasks)) if i != left_out]
        background = fit(np.concatenate([x[tasks[i], "train"] for i in installed]), np.zeros(600 * len(installed))) if relative else None
        def of(u):
            chosen = scores[u][:, installed].argmin(1)
            rows = np.arange(len(chosen))
            if relative:
                return scores[u][:, installed][rows, chosen] - sum(background(x[u, "test"]))
            return strange[u][:, installed][rows, chosen]
        areas.append(auroc(of(stranger), np.concatenate([of(tasks[i]) for i in installed])))
    return np.mean(right), np.mean(areas)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("backbone")
    parser.add_argument("tasks")
    parser.add_argument("--size", type=int, default=96)
    arguments = parser.parse_args()
    session = backbone(arguments.backbone)
    data = {}
    for task in DISTINCT + ALIKE:
        for split, most in (("train", 600), ("val", 200), ("test", 300)):
            data[task, split] = features(session, os.path.join(arguments.tasks, task, split), most, arguments.size)
    same = lambda x: x
    n, d = 1280, DIMENSIONS
    triangle = lambda d: d * (d + 1) // 2 + d
    candidates = [
        ("diagonal Gaussian of the features", 2 * n, same, diagonal, {}),
        ("diagonal Gaussian of normed roots", 2 * n, roots, diagonal, {}),
        ("class means, one diagonal, normed roots", 11 * n, roots, class_means, {}),
        ("8 prototypes, cosine, normed roots", 8 * n, roots, prototypes, {}),
        ("mean and 8 directions, normed roots", 9 * n, roots, low_rank, {}),
        ("full Gaussian of a sketch of 60", triangle(60), sketches(60), full, {}),
        (f"full Gaussian of a sketch of {d}", triangle(d), sketches(d), full, {}),
        ("full Gaussian of a sketch of 240", triangle(240), sketches(240), full, {}),
        (f"the same of {d}, covariance 30 % pooled on the device", triangle(d), sketches(d), full, {"pooled": 0.3}),
        (f"the same of {d}, relative to all tasks' background", triangle(d), sketches(d), full, {"relative": True}),
    ]
    print(f"| candidate ({arguments.size} px) | values | right, 9 tasks | AUROC | right, 12 tasks | AUROC |\n|---|---|---|---|---|---|")
    for name, values, transform, fit, more in candidates:
        cells = [f"{100 * right:.1f} % | {area:.3f}" for right, area in (judge(data, tasks, transform, fit, **more) for tasks in (DISTINCT, DISTINCT + ALIKE))]
        print(f"| {name} | {values:,} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
