#!/usr/bin/env python3
"""The original classifier of seven exported networks on labelled images: `clr` against ONNX Runtime with the exporter's own preprocessing.

  original_accuracy.py [--clr FILE] [--tasks FOLDER] [--lite0 FILE] [--work FOLDER] [--train N] [--test N] [NAME ...]

Each network is EfficientNet-Lite0 for another convention: mean, deviation and channel order are folded into its first convolution (or put in front of it), its
last layer is fitted by logistic regression on the features that it then has. Backbone and images come from `clr fetch`. The reference reads the images
with Pillow, resizes and cuts with torchvision, and runs the file in ONNX Runtime. Prints, per network, both accuracies, the number of images whose class differs, and
the report of `clr import --check-images` on every preset. Exit 1 if an accuracy differs.

Needs torch, torchvision, onnx, onnxruntime, pillow, numpy.
"""
import argparse, json, os, subprocess, sys, tempfile
from pathlib import Path

import numpy as np, onnx, onnxruntime as ort, torch
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from torchvision.transforms import InterpolationMode as Mode, functional as F

SIZE = 96
IMAGENET = ([123.675, 116.28, 103.53], [58.395, 57.12, 57.375])
CAFFE = ([103.939, 116.779, 123.68], [1.0] * 3)


# Task; mean and deviation of 0-255 in the network's order; BGR; crop (None: stretched); filter; in the graph ("floats" of 0 to 1, "bytes"); options of `clr import`.
CASES = {
    "imagenet": ("climate.limit200", IMAGENET, False, 0.875, "bilinear", None, ["--preset", "imagenet"]),
    "tf": ("furniture", ([127.5] * 3, [127.5] * 3), False, 0.875, "bicubic", None, ["--preset", "tf"]),
    "caffe": ("signs", CAFFE, True, 1.0, "bilinear", None, ["--preset", "caffe"]),
    "0-255": ("fashion", ([0.0] * 3, [1.0] * 3), False, None, "bilinear", None, ["--preset", "0-255"]),
    "unit": ("silhouettes", ([0.0] * 3, [255.0] * 3), False, None, "bicubic", None, ["--range", "1"]),
    "in-graph": ("furniture", IMAGENET, False, 0.875, "bilinear", "floats", []),
    "bytes": ("solar-cells.limit800", ([127.0] * 3, [128.0] * 3), False, 0.875, "bicubic", "bytes", []),
}


def images(root, count):
    """Paths and classes, evenly spaced, `count` in all."""
    classes = sorted(path.name for path in root.iterdir() if path.is_dir())
    found = [(path, k) for k, name in enumerate(classes) for path in sorted((root / name).iterdir())]
    return classes, found[:: max(1, len(found) // count)]


def fitted(path, crop, mode):
    """An image as the exporter's evaluation reads it: resized and cut, bytes [3, SIZE, SIZE]."""
    image = Image.open(path).convert("RGB")
    mode = Mode.BICUBIC if mode == "bicubic" else Mode.BILINEAR
    if crop is None:
        image = F.resize(image, [SIZE, SIZE], mode)
    else:
        image = F.center_crop(F.resize(image, round(SIZE / crop), mode), SIZE)
    return np.asarray(image, np.uint8).transpose(2, 0, 1)


def tensor(pixels, convention, bgr):
    mean, std = (np.array(part, np.float32).reshape(3, 1, 1) for part in convention)
    pixels = pixels[:, ::-1] if bgr else pixels
    return np.ascontiguousarray((pixels.astype(np.float32) - mean) / std)


def fit(features, labels, classes):
    """Weight and bias of a logistic regression; features keep their relative scale, so that none amplifies rounding."""
    x, y = torch.tensor(features), torch.tensor(labels)
    mean, std = x.mean(0), x.std()
    layer = torch.nn.Linear(x.shape[1], classes)
    x = (x - mean) / std
    optimiser = torch.optim.LBFGS(layer.parameters(), max_iter=60, line_search_fn="strong_wolfe")

    def loss():
        optimiser.zero_grad()
        value = torch.nn.functional.cross_entropy(layer(x), y) + 3e-3 * layer.weight.square().sum()
        value.backward()
        return value

    optimiser.step(loss)
    with torch.no_grad():
        weight = layer.weight / std
        return weight.numpy(), (layer.bias - weight @ mean).numpy()


def export(lite0, convention, bgr, inside, x, labels, classes, path):
    """Writes the network of a convention, without any metadata; `x` is its input for the training images."""
    model = onnx.load(lite0)
    graph = model.graph
    del model.metadata_props[:]
    model.graph.name = "exported"
    image, last = graph.input[0].name, next(node for node in graph.node if node.output[0] == graph.output[0].name)
    for dim, side in zip(graph.input[0].type.tensor_type.shape.dim[2:], (SIZE, SIZE)):
        dim.dim_value = side
    fold(graph, image, convention, bgr)
    if inside:
        prepend(graph, image, convention, inside)
    features, logits = last.input[0], graph.output[0].name
    graph.output[0].CopyFrom(helper.make_tensor_value_info(features, TensorProto.FLOAT, None))
    graph.node.remove(last)
    weight, bias = fit(run(model.SerializeToString(), x), labels, classes)
    for name, value in (("new.weight", weight), ("new.bias", bias)):
        graph.initializer.append(numpy_helper.from_array(value.astype(np.float32), name))
    graph.node.append(helper.make_node("Gemm", [features, "new.weight", "new.bias"], [logits], transB=1))
    graph.output[0].CopyFrom(helper.make_tensor_value_info(logits, TensorProto.FLOAT, ["batch", classes]))
    used = {name for node in graph.node for name in node.input}
    for tensor in [tensor for tensor in graph.initializer if tensor.name not in used]:
        graph.initializer.remove(tensor)
    onnx.save(model, path)


def fold(graph, image, convention, bgr):
    """Makes the first convolution and its norm read images of the convention: v = x * std + mean, and Lite0 reads (v - 127) / 128."""
    mean, std = (np.array(part) for part in convention)
    convolution = next(node for node in graph.node if image in node.input)
    norm = next(node for node in graph.node if convolution.output[0] in node.input)
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    weight, running = (numpy_helper.to_array(tensors[name]).astype(float) for name in (convolution.input[1], norm.input[3]))
    weight = weight[:, ::-1] if bgr else weight
    running = running - np.einsum("oikl,i->o", weight, (mean - 127) / 128)
    weight = weight * (std / 128)[:, None, None]
    for name, value in ((convolution.input[1], weight), (norm.input[3], running)):
        tensors[name].CopyFrom(numpy_helper.from_array(value.astype(np.float32), name))


def prepend(graph, image, convention, inside):
    """Puts the normalisation in front, of floats from 0 to 1 or of bytes."""
    unit = 255.0 if inside == "floats" else 1.0
    for node in graph.node:
        node.input[:] = ["normalised" if name == image else name for name in node.input]
    for name, value in zip(("given.mean", "given.std"), convention):
        graph.initializer.append(numpy_helper.from_array((np.array(value, np.float32) / np.float32(unit)).reshape(1, 3, 1, 1), name))
    nodes = [helper.make_node("Sub", [image, "given.mean"], ["centred"]), helper.make_node("Div", ["centred", "given.std"], ["normalised"])]
    if inside == "bytes":
        graph.input[0].type.tensor_type.elem_type = TensorProto.UINT8
        nodes[0].input[0] = "floats"
        nodes.insert(0, helper.make_node("Cast", [image], ["floats"], to=TensorProto.FLOAT))
    for node in reversed(nodes):
        graph.node.insert(0, node)


def run(model, x):
    session = ort.InferenceSession(model, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return np.concatenate([session.run(None, {name: np.ascontiguousarray(x[k : k + 16])})[0] for k in range(0, len(x), 16)])


def compare(name, arguments, work):
    task, convention, bgr, crop, mode, inside, options = CASES[name]
    root = Path(arguments.tasks, task)
    classes, training = images(root / "train", arguments.train)
    _, test = images(root / "test", arguments.test)
    labels, truth = (np.array([k for _, k in part]) for part in (training, test))
    # What the exporter's own code gives the file.
    outside = {None: convention, "floats": ([0.0] * 3, [255.0] * 3)}.get(inside)
    read = lambda part: np.stack([fitted(path, crop, mode) for path, _ in part])
    given = lambda part: tensor(read(part), outside, bgr) if outside else read(part)
    path = str(work / f"{name}.onnx")
    export(arguments.lite0, convention, bgr, inside, given(training), labels, len(classes), path)
    expected = run(path, given(test)).argmax(1)

    folder = work / f"{name}-images"
    for source, k in test:
        (folder / classes[k]).mkdir(parents=True, exist_ok=True)
        (folder / classes[k] / source.name).write_bytes(source.read_bytes())
    (work / "labels.txt").write_text("\n".join(classes) + "\n")
    backbone = path.replace(".onnx", ".backbone.onnx")
    shape = ["--crop", "stretch" if crop is None else str(crop), "--filter", mode]
    command = lambda *more: json.loads(subprocess.run([arguments.clr, *map(str, more), "--json", "-q"], check=True, capture_output=True).stdout)
    report = command("import", path, "-o", backbone, "--labels", work / "labels.txt", "--check-images", folder, *shape, *options)["check"]
    answers = command("classify", "-b", backbone, "-a", backbone.replace(".onnx", ".original.clr"), folder)["results"]
    got = {answer["image"]: answer["top"][0]["index"] for answer in answers}
    own = np.array([got[str(folder / classes[k] / source.name)] for source, k in test])
    right, ours = int((expected == truth).sum()), report["in_force"]["top_1"]
    percent = lambda count: f"{100 * count / len(test):.1f} %"
    print(f"{name:<9} {task:<21} {len(test):>4} images   ONNX Runtime {right:>4} right ({percent(right)})   clr {ours:>4} ({percent(ours)})   "
          f"another class on {int((own != expected).sum())}", flush=True)
    print(" " * 10 + ", ".join(f"{preset['preset']} {100 * preset['top_1_accuracy']:.1f} %" for preset in report["presets"]), flush=True)
    return ours == right


def main():
    cache = Path.home() / ".cache/clr"
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clr", default="target/release/clr")
    parser.add_argument("--tasks", default=cache / "tasks")
    parser.add_argument("--lite0", default=cache / "backbones/lite0.onnx")
    parser.add_argument("--work")
    parser.add_argument("--train", type=int, default=500)
    parser.add_argument("--test", type=int, default=300)
    parser.add_argument("names", nargs="*", metavar="NAME")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(arguments.work or temporary)
        work.mkdir(parents=True, exist_ok=True)
        agree = [compare(name, arguments, work) for name in arguments.names or CASES]
    sys.exit(0 if all(agree) else 1)


if __name__ == "__main__":
    main()
