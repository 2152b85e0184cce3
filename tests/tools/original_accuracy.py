#!/usr/bin/env python3
"""The original classifier of seven exported networks, on labelled images: `clr` against ONNX Runtime with the exporter's own preprocessing.

  original_accuracy.py [--clr FILE] [--tasks FOLDER] [--lite0 FILE] [--work FOLDER] [--train N] [--test N] [NAME ...]

Each network has another convention: its frozen features are those of a torchvision architecture (seeded weights, norms calibrated on the images) or of
EfficientNet-Lite0, its last layer is fitted on the training images by logistic regression. The images come from `clr fetch`. The reference reads them with Pillow, resizes
and cuts with torchvision, and runs the exported file in ONNX Runtime. Prints, per network, both accuracies and the number of images whose class
differs; then what `clr import --check-images` says of the other presets. Exit 1 if a class differs on any image.

Needs torch, torchvision, onnx, onnxruntime, pillow, numpy.
"""
import argparse, json, os, subprocess, sys, tempfile
from pathlib import Path

import numpy as np, onnx, onnxruntime as ort, torch, torchvision
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from torchvision.transforms import InterpolationMode as Mode, functional as F

SIZE = 96
IMAGENET = ([123.675, 116.28, 103.53], [58.395, 57.12, 57.375])
CAFFE = ([103.939, 116.779, 123.68], [1.0] * 3)


class InGraph(torch.nn.Module):
    """A network that normalises images of 0 to 1 by itself."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner
        self.register_buffer("mean", torch.tensor(IMAGENET[0]).view(1, 3, 1, 1) / 255)
        self.register_buffer("std", torch.tensor(IMAGENET[1]).view(1, 3, 1, 1) / 255)

    def forward(self, x):
        return self.inner((x - self.mean) / self.std)


def small():
    """A plain network of three convolutions."""
    layers, last = [], 3
    for width in (32, 64, 128):
        layers += [torch.nn.Conv2d(last, width, 3, 2, 1, bias=False), torch.nn.BatchNorm2d(width), torch.nn.ReLU()]
        last = width
    return torch.nn.Sequential(*layers, torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(last, 2))


# Task; network; mean and deviation of 0-255 in the network's order; BGR; crop (None: stretched); filter; options of `clr import`.
CASES = {
    "imagenet": ("climate.limit200", torchvision.models.resnet18, IMAGENET, False, 0.875, "bilinear", ["--preset", "imagenet"]),
    "tf": ("furniture", torchvision.models.mobilenet_v2, ([127.5] * 3, [127.5] * 3), False, 0.875, "bicubic", ["--preset", "tf"]),
    "caffe": ("signs", torchvision.models.resnet18, CAFFE, True, 1.0, "bilinear", ["--preset", "caffe"]),
    "0-255": ("fashion", small, ([0.0] * 3, [1.0] * 3), False, None, "bilinear", ["--preset", "0-255"]),
    "unit": ("silhouettes", torchvision.models.mobilenet_v3_small, ([0.0] * 3, [255.0] * 3), False, None, "bicubic", ["--range", "1"]),
    "in-graph": ("furniture", torchvision.models.resnet18, ([0.0] * 3, [255.0] * 3), False, 0.875, "bilinear", []),
    "lite0 of bytes": ("solar-cells.limit800", None, ([0.0] * 3, [1.0] * 3), False, 0.875, "bicubic", []),
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
    """Weight and bias of a logistic regression on standardised features."""
    x, y = torch.tensor(features), torch.tensor(labels)
    mean, std = x.mean(0), x.std(0) + 1e-4
    layer = torch.nn.Linear(x.shape[1], classes)
    x = (x - mean) / std
    optimiser = torch.optim.LBFGS(layer.parameters(), max_iter=60, line_search_fn="strong_wolfe")

    def loss():
        optimiser.zero_grad()
        value = torch.nn.functional.cross_entropy(layer(x), y) + 1e-3 * layer.weight.square().sum()
        value.backward()
        return value

    optimiser.step(loss)
    with torch.no_grad():
        weight = layer.weight / std
        return weight.numpy(), (layer.bias - weight @ mean).numpy()


def export_torch(make, x, labels, classes, in_graph, path):
    torch.manual_seed(0)
    network = make() if make is small else make(weights=None)
    body = InGraph(network) if in_graph else network
    last = [(name, module) for name, module in network.named_modules() if isinstance(module, torch.nn.Linear)][-1]
    parent = network.get_submodule(last[0].rpartition(".")[0]) if "." in last[0] else network
    setattr(parent, last[0].rpartition(".")[2], torch.nn.Identity())
    batches = torch.tensor(x).split(32)
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.momentum = None
        body.train()
        for batch in batches[:4]:
            body(batch)
        body.eval()
        features = torch.cat([body(batch) for batch in batches])
    weight, bias = fit(features.numpy(), labels, classes)
    head = torch.nn.Linear(features.shape[1], classes)
    head.weight.data, head.bias.data = torch.tensor(weight), torch.tensor(bias)
    setattr(parent, last[0].rpartition(".")[2], head)
    torch.onnx.export(body.eval(), (torch.zeros(1, 3, SIZE, SIZE),), path, opset_version=17, input_names=["input"], output_names=["output"],
                      dynamic_axes={"input": {0: "batch"}, "output": {0: "batch"}}, dynamo=False)


def export_lite0(lite0, pixels, labels, classes, path):
    """EfficientNet-Lite0 that takes bytes: Cast, Sub, Div, the network, a new last layer."""
    model = onnx.load(lite0)
    graph = model.graph
    del model.metadata_props[:]
    image, last = graph.input[0].name, next(node for node in graph.node if node.output[0] == graph.output[0].name)
    for dim, side in zip(graph.input[0].type.tensor_type.shape.dim[2:], (SIZE, SIZE)):
        dim.dim_value = side
    for node in graph.node:
        node.input[:] = ["normalised" if name == image else name for name in node.input]
    graph.input[0].type.tensor_type.elem_type = TensorProto.UINT8
    constant = lambda name, value: graph.initializer.append(numpy_helper.from_array(np.array(value, np.float32), name))
    constant("lite.mean", 127.0), constant("lite.std", 128.0)
    for node in reversed([helper.make_node("Cast", [image], ["floats"], to=TensorProto.FLOAT), helper.make_node("Sub", ["floats", "lite.mean"], ["centred"]),
                          helper.make_node("Div", ["centred", "lite.std"], ["normalised"])]):
        graph.node.insert(0, node)
    features, logits = last.input[0], graph.output[0].name
    graph.output[0].CopyFrom(helper.make_tensor_value_info(features, TensorProto.FLOAT, None))
    graph.node.remove(last)
    x = run(model.SerializeToString(), pixels, np.uint8)
    weight, bias = fit(x, labels, classes)
    constant("new.weight", weight), constant("new.bias", bias)
    graph.node.append(helper.make_node("Gemm", [features, "new.weight", "new.bias"], [logits], transB=1))
    graph.output[0].CopyFrom(helper.make_tensor_value_info(logits, TensorProto.FLOAT, ["batch", classes]))
    used = {name for node in graph.node for name in node.input}
    for tensor in [tensor for tensor in graph.initializer if tensor.name not in used]:
        graph.initializer.remove(tensor)
    onnx.save(model, path)


def run(model, x, kind=np.float32):
    session = ort.InferenceSession(model, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return np.concatenate([session.run(None, {name: np.ascontiguousarray(x[k : k + 16]).astype(kind)})[0] for k in range(0, len(x), 16)])


def compare(name, arguments, work):
    task, make, convention, bgr, crop, mode, options = CASES[name]
    root = Path(arguments.tasks, task)
    classes, training = images(root / "train", arguments.train)
    _, test = images(root / "test", arguments.test)
    labels = np.array([k for _, k in training])
    pixels = np.stack([fitted(path, crop, mode) for path, _ in training])
    path = str(work / f"{name.replace(' ', '-')}.onnx")
    if make is None:
        export_lite0(arguments.lite0, pixels, labels, len(classes), path)
    else:
        export_torch(make, tensor(pixels, convention, bgr), labels, len(classes), name == "in-graph", path)
    seen = np.stack([fitted(path, crop, mode) for path, _ in test])
    kind = np.uint8 if make is None else np.float32
    logits = run(path, seen if make is None else tensor(seen, convention, bgr), kind)
    expected = logits.argmax(1)

    folder = work / f"{name.replace(' ', '-')}-images"
    for source, k in test:
        (folder / classes[k]).mkdir(parents=True, exist_ok=True)
        link = folder / classes[k] / source.name
        if not link.exists():
            os.link(source, link) if os.stat(source).st_dev == os.stat(folder).st_dev else link.write_bytes(source.read_bytes())
    (work / "labels.txt").write_text("\n".join(classes) + "\n")
    backbone = path.replace(".onnx", ".backbone.onnx")
    shape = ["--crop", "stretch" if crop is None else str(crop), "--filter", mode]
    command = lambda *more: json.loads(subprocess.run([arguments.clr, *map(str, more), "--json", "-q"], check=True, capture_output=True).stdout)
    report = command("import", path, "-o", backbone, "--labels", work / "labels.txt", "--check-images", folder, *shape, *options)["check"]
    answers = command("classify", "-b", backbone, "-a", backbone.replace(".onnx", ".original.clr"), folder)["results"]
    got = {answer["image"]: answer["top"][0]["index"] for answer in answers}
    own = np.array([got[str(folder / classes[k] / source.name)] for source, k in test])
    truth = np.array([k for _, k in test])
    different = int((own != expected).sum())
    right = int((expected == truth).sum())
    agrees = report["in_force"]["top_1"] == right and different == 0
    print(f"{name:<15} {task:<21} {len(test):>4} images  ONNX Runtime {right:>4} right ({100 * right / len(test):.1f} %)  clr {report['in_force']['top_1']:>4} "
          f"({100 * report['in_force']['top_1_accuracy']:.1f} %)  other class on {different}", flush=True)
    print(" " * 16 + ", ".join(f"{preset['preset']} {100 * preset['top_1_accuracy']:.1f} %" for preset in report["presets"]), flush=True)
    return agrees


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
