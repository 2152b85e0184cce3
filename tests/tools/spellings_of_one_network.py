"""One network in many spellings is one backbone: exports it, imports every file, compares digests and results.

    python tests/tools/spellings_of_one_network.py target/release/clr OUT [--images 40]

A small seeded PyTorch network (depthwise convolution, gate, ReLU6, residual) is written by PyTorch's two exporters at several opsets, by
Keras through its torch back end with the same weights, and in the spellings that converters leave. `clr import` reads each file and
`clr classify` classifies the images. A spelling passes if its digest is that of the first one, or if its graph is the same but for the names
that another exporter gives to the nodes, or if its weights are folded differently or rounded (norms, half precision) and the five likeliest classes are
those of ONNX Runtime on the first file, on every image. Prints one line per spelling; exits 1 if one fails.

The images are 64 × 64 and the input 56 × 56: the default preprocessing then only crops.
Needs: torch, onnx, onnxruntime, onnxscript, keras, numpy, pillow.
"""

import argparse
import copy
import hashlib
import json
import os
import pathlib
import subprocess
import sys
import warnings

os.environ.setdefault("KERAS_BACKEND", "torch")
warnings.filterwarnings("ignore")

import numpy as np
import onnx
import onnxruntime as ort
import torch
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

SIZE, CLASSES = 56, 20
MEAN = np.array([0.485, 0.456, 0.406], np.float32)
STD = np.array([0.229, 0.224, 0.225], np.float32)
TO_FIRST, TO_LAST = [0, 3, 1, 2], [0, 2, 3, 1]


class Network(torch.nn.Module):
    def __init__(self):
        super().__init__()
        nn = torch.nn
        self.stem, self.stem_norm = nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16, eps=1e-3)
        self.depthwise, self.depthwise_norm = nn.Conv2d(16, 16, 3, padding=1, groups=16, bias=False), nn.BatchNorm2d(16, eps=1e-3)
        self.squeeze, self.excite = nn.Conv2d(16, 4, 1), nn.Conv2d(4, 16, 1)
        self.project, self.project_norm = nn.Conv2d(16, 32, 1, bias=False), nn.BatchNorm2d(32, eps=1e-3)
        self.classifier = nn.Linear(32, CLASSES)

    def forward(self, x):
        functional = torch.nn.functional
        x = functional.max_pool2d(functional.relu6(self.stem_norm(self.stem(x))), 2)
        y = functional.relu6(self.depthwise_norm(self.depthwise(x)))
        gate = torch.sigmoid(self.excite(functional.relu(self.squeeze(functional.adaptive_avg_pool2d(y, 1)))))
        x = functional.max_pool2d(x + y * gate, 2)
        x = functional.relu(self.project_norm(self.project(x)))
        return self.classifier(torch.flatten(functional.adaptive_avg_pool2d(x, 1), 1))


def network():
    torch.manual_seed(7)
    model = Network().eval()
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.running_mean.normal_(0, 0.1)
                module.running_var.uniform_(0.5, 1.5)
                module.weight.uniform_(0.7, 1.4)
                module.bias.normal_(0, 0.2)
        model.classifier.weight.mul_(8)
    return model


def keras_twin(model):
    import keras

    layers = keras.layers
    kernel = lambda conv: conv.weight.detach().numpy().transpose(2, 3, 1, 0)
    norm = lambda n: [t.detach().numpy() for t in (n.weight, n.bias, n.running_mean, n.running_var)]
    image = x = layers.Input((SIZE, SIZE, 3))
    made = []

    def add(layer, weights, x):
        made.append((layer, weights))
        return layer(x)

    x = add(layers.Conv2D(16, 3, padding="same", use_bias=False), [kernel(model.stem)], x)
    x = layers.ReLU(6.0)(add(layers.BatchNormalization(epsilon=1e-3), norm(model.stem_norm), x))
    x = layers.MaxPooling2D(2)(x)
    y = add(layers.DepthwiseConv2D(3, padding="same", use_bias=False), [kernel(model.depthwise).transpose(0, 1, 3, 2)], x)
    y = layers.ReLU(6.0)(add(layers.BatchNormalization(epsilon=1e-3), norm(model.depthwise_norm), y))
    gate = layers.GlobalAveragePooling2D(keepdims=True)(y)
    gate = add(layers.Conv2D(4, 1, activation="relu"), [kernel(model.squeeze), model.squeeze.bias.detach().numpy()], gate)
    gate = add(layers.Conv2D(16, 1, activation="sigmoid"), [kernel(model.excite), model.excite.bias.detach().numpy()], gate)
    x = layers.MaxPooling2D(2)(layers.Add()([x, layers.Multiply()([y, gate])]))
    x = add(layers.Conv2D(32, 1, use_bias=False), [kernel(model.project)], x)
    x = layers.ReLU()(add(layers.BatchNormalization(epsilon=1e-3), norm(model.project_norm), x))
    x = layers.GlobalAveragePooling2D()(x)
    dense = model.classifier
    x = add(layers.Dense(CLASSES), [dense.weight.detach().numpy().T, dense.bias.detach().numpy()], x)
    twin = keras.Model(image, x)
    for layer, weights in made:
        layer.set_weights(weights)
    twin(np.zeros((1, SIZE, SIZE, 3), np.float32))
    return twin


def constants_as_nodes(model):
    nodes = [helper.make_node("Constant", [], [i.name], name="constant." + i.name, value=i) for i in model.graph.initializer]
    del model.graph.initializer[:]
    rest = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend(nodes + rest)


def behind_transposes(model):
    """Weights as TensorFlow has them: height, width, inputs, outputs, after an alias and a Transpose."""
    added = []
    for initializer in model.graph.initializer:
        if len(initializer.dims) == 4:
            name, values = initializer.name, numpy_helper.to_array(initializer)
            initializer.CopyFrom(numpy_helper.from_array(values.transpose(2, 3, 1, 0).copy(), name + ".hwio"))
            added.append(helper.make_node("Identity", [name + ".hwio"], [name + ".alias"], name=name + ".identity"))
            added.append(helper.make_node("Transpose", [name + ".alias"], [name], name=name + ".transpose", perm=[3, 2, 0, 1]))
    rest = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend(added + rest)


def channels_last(model):
    """As tf2onnx leaves it: the image [N, H, W, 3], every node on maps but the convolutions and pools on channels last."""
    dims = model.graph.input[0].type.tensor_type.shape.dim
    dims[1].dim_value, dims[2].dim_value, dims[3].dim_value = SIZE, SIZE, 3
    first_only = {"Conv", "MaxPool", "GlobalAveragePool"}
    nodes = list(model.graph.node)
    del model.graph.node[:]
    for node in nodes:
        if node.op_type in first_only:
            source, target = node.input[0], node.output[0]
            node.input[0], node.output[0] = target + ".in", target + ".out"
            model.graph.node.append(helper.make_node("Transpose", [source], [target + ".in"], name=target + ".first", perm=TO_FIRST))
            model.graph.node.append(node)
            model.graph.node.append(helper.make_node("Transpose", [target + ".out"], [target], name=target + ".last", perm=TO_LAST))
        else:
            model.graph.node.append(node)


def normalised_inside(model):
    """Pixels from 0 to 1: mean and deviation are nodes of the graph."""
    name = model.graph.input[0].name
    for node in model.graph.node:
        node.input[:] = ["normalised" if value == name else value for value in node.input]
    for constant, values in (("mean", MEAN), ("std", STD)):
        model.graph.initializer.append(numpy_helper.from_array(values.reshape(1, 3, 1, 1), constant))
    model.graph.node.insert(0, helper.make_node("Div", ["centred", "std"], ["normalised"], name="normalise.div"))
    model.graph.node.insert(0, helper.make_node("Sub", [name, "mean"], ["centred"], name="normalise.sub"))


def half(model):
    """Float in and out, half inside."""
    for initializer in model.graph.initializer:
        if initializer.data_type == TensorProto.FLOAT:
            initializer.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(initializer).astype(np.float16), initializer.name))
    for node in model.graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t") and attribute.t.data_type == TensorProto.FLOAT:
                attribute.t.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(attribute.t).astype(np.float16)))
    del model.graph.value_info[:]
    name, output = model.graph.input[0].name, model.graph.output[0].name
    for node in model.graph.node:
        node.input[:] = ["in.half" if value == name else value for value in node.input]
        node.output[:] = ["out.half" if value == output else value for value in node.output]
    model.graph.node.insert(0, helper.make_node("Cast", [name], ["in.half"], name="cast.in", to=TensorProto.FLOAT16))
    model.graph.node.append(helper.make_node("Cast", ["out.half"], [output], name="cast.out", to=TensorProto.FLOAT))


def bfloat16_weights(model):
    casts = []
    for initializer in model.graph.initializer:
        if initializer.data_type == TensorProto.FLOAT and len(initializer.dims) == 4:
            name, bits = initializer.name, numpy_helper.to_array(initializer).view(np.uint32)
            rounded = ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)
            initializer.CopyFrom(helper.make_tensor(name + ".b", TensorProto.BFLOAT16, initializer.dims, rounded.tobytes(), raw=True))
            casts.append(helper.make_node("Cast", [name + ".b"], [name], name=name + ".cast", to=TensorProto.FLOAT))
    rest = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend(casts + rest)


def written(reference, path, change):
    model = copy.deepcopy(reference)
    change(model)
    onnx.save(model, path)


def spellings(out):
    """Writes every spelling; gives their names and files."""
    model, image = network(), torch.randn(1, 3, SIZE, SIZE)
    batch = {"dynamic_axes": {"image": {0: "N"}}, "input_names": ["image"], "output_names": ["logits"]}
    files = {}

    def path(name):
        files[name] = out / (name.replace(" ", "-") + ".onnx")
        return str(files[name])

    script = lambda name, opset, **more: torch.onnx.export(model, (image,), path(name), dynamo=False, opset_version=opset, **batch, **more)
    dynamo = lambda name, opset, **more: torch.onnx.export(model, (image,), path(name), dynamo=True, opset_version=opset, verbose=False, **more)
    script("torchscript opset 17", 17)
    script("torchscript opset 9", 9, keep_initializers_as_inputs=True)
    script("torchscript opset 13", 13)
    script("torchscript opset 11 unfolded", 11, do_constant_folding=False)
    dynamo("dynamo opset 18", 18, external_data=False)
    dynamo("dynamo opset 23", 23, external_data=False)
    dynamo("dynamo external data", 18, external_data=True)
    reference = onnx.load(files["torchscript opset 17"])
    changes = {
        "weights as Constant nodes": constants_as_nodes,
        "weights behind Transpose": behind_transposes,
        "channels last": channels_last,
        "normalisation inside": normalised_inside,
        "half with casts": half,
        "bfloat16 weights": bfloat16_weights,
    }
    for name, change in changes.items():
        written(reference, path(name), change)
    keras_twin(model).export(path("keras torch back end"), format="onnx", verbose=False)
    halved = copy.deepcopy(model).half()
    torch.onnx.export(halved, (image.half(),), path("torchscript half"), dynamo=False, opset_version=17, **batch)
    return files


def fingerprint(path):
    """SHA-256 of a backbone's graph and weights without names."""
    model, digest, number = onnx.load(path), hashlib.sha256(), {}
    tensors = {i.name: i for i in model.graph.initializer}
    number[model.graph.input[0].name] = 0
    for node in model.graph.node:
        digest.update(node.op_type.encode())
        for name in node.input:
            if name in tensors:
                tensor = numpy_helper.to_array(tensors[name])
                digest.update(str(tensor.shape).encode() + tensor.tobytes())
            else:
                digest.update(str(number.get(name)).encode())
        for attribute in sorted(node.attribute, key=lambda attribute: attribute.name):
            digest.update(f"{attribute.name}={helper.get_attribute_value(attribute)}".encode())
        number.update((name, len(number)) for name in node.output)
    return digest.hexdigest()


def images(out, count):
    folder, random = out / "images", np.random.default_rng(3)
    folder.mkdir(exist_ok=True)
    y, x = np.mgrid[0:64, 0:64]
    paths = []
    for index in range(count):
        waves = sum(np.sin(random.uniform(0.05, 0.6) * x + random.uniform(0.05, 0.6) * y + random.uniform(0, 6)) for _ in range(3))
        pixels = random.uniform(30, 220, 3) + waves[..., None] * random.uniform(-40, 40, 3) + random.normal(0, 12, (64, 64, 3))
        paths.append(folder / f"{index:03}.png")
        Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(paths[-1])
    return paths


def expected(path, files):
    """Probabilities of ONNX Runtime on the cropped images."""
    options = ort.SessionOptions()
    options.log_severity_level = 3
    session, answers = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"]), []
    for file in files:
        pixels = np.asarray(Image.open(file))[4:60, 4:60].astype(np.float32) / 255
        batch = ((pixels - MEAN) / STD).transpose(2, 0, 1)[None].astype(np.float32)
        logits = session.run(None, {session.get_inputs()[0].name: batch})[0][0].astype(np.float64)
        answers.append(np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum())
    return answers


def run(*command):
    return subprocess.run([str(part) for part in command], capture_output=True, text=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clr", type=pathlib.Path)
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--images", type=int, default=40)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    files, shown = spellings(options.out), images(options.out, options.images)
    answers = expected(next(iter(files.values())), shown)
    first, failed = None, 0
    for name, file in files.items():
        backbone = options.out / (file.stem + ".backbone.onnx")
        imported = run(options.clr, "import", file, "-o", backbone)
        if imported.returncode:
            print(f"FAIL  {name:32} refused: {imported.stderr.strip()}")
            failed += 1
            continue
        digest = json.loads(run(options.clr, "inspect", backbone, "--json").stdout)["digest"]
        graph = fingerprint(backbone)
        adapter = backbone.with_suffix("").with_suffix(".backbone.original.clr")
        got = run(options.clr, "classify", "-b", backbone, "-a", adapter, *shown, "-k", CLASSES, "--json")
        results = json.loads(got.stdout)["results"] if got.returncode == 0 else []
        same, largest = 0, 0.0
        for result, answer in zip(results, answers):
            probabilities = {entry["index"]: entry["probability"] for entry in result["top"]}
            ranked = sorted(probabilities, key=probabilities.get, reverse=True)
            same += set(ranked[:5]) == set(np.argsort(-answer)[:5].tolist())
            largest = max([largest] + [abs(probabilities.get(index, 0.0) - value) for index, value in enumerate(answer)])
        first = first or (digest, graph)
        kind = "one digest" if digest == first[0] else "same graph, other names" if graph == first[1] else "norms folded or rounded"
        passed = same == len(shown)
        failed += not passed
        print(
            f"{'pass' if passed else 'FAIL'}  {name:32} {digest[:12]}  graph {graph[:8]}  {kind:25} "
            f"top 5 on {same} of {len(shown)}, a probability differs by at most {largest:.1e}",
            flush=True,
        )
    print(f"{len(files) - failed} of {len(files)} spellings")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
