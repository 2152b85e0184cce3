"""Fine-tuning of all weights of a backbone in PyTorch, to compare adapters with. Rate and epochs are chosen on validation images.

    python tests/tools/full_fine_tuning.py lite0.onnx TASK... --limit 1000 --size 96 --seeds 0 --rates 1e-4,3e-4,1e-3 --epochs 10,30

TASK is a folder of `clr fetch` with train/, val/ and test/. One line per task, seed, rate and epochs; the line with the best validation
accuracy (then the lowest loss) of a task and seed gets a star, and its test accuracy is the result. Columns: task, seed, rate, epochs,
validation accuracy and loss, test accuracy, seconds.

The schedule: the head is fitted to the features first; then AdamW with one epoch of warm-up and half a cosine, batches of 16, label
smoothing 0.1, norms with the statistics of the batch, and small random crops, turns and changes of brightness. Reads backbones that `clr`
writes, if they have no other operators than EfficientNet-Lite, ResNets, MobileNetV2 and SqueezeNet.

Needs: numpy, onnx, Pillow, torch.
"""

import argparse
import json
import math
import pathlib
import random
import time

import numpy
import onnx
import torch
from onnx import numpy_helper
from PIL import Image, ImageEnhance
from torch.nn import functional

BATCH = 16


class Images:
    """Decoded images of a split at input size, with their labels."""

    def __init__(self, folder, labels, preprocessing, size, limit, seed):
        files = [(file, index) for index, label in enumerate(labels) for file in sorted((folder / label).iterdir())]
        if limit and len(files) > limit:
            # As many of each class as in the whole split.
            by_class = [[pair for pair in files if pair[1] == index] for index in range(len(labels))]
            for pairs in by_class:
                random.Random(seed).shuffle(pairs)
            files = [pair for pairs in by_class for pair in pairs[: max(2, round(len(pairs) * limit / len(files)))]]
        self.preprocessing = preprocessing
        self.images = [crop(opened(file), preprocessing, size) for file, _ in files]
        self.labels = torch.tensor([index for _, index in files])

    def batch(self, indices, change=None):
        images = [self.images[index] if change is None else change(self.images[index]) for index in indices]
        values = numpy.stack([numpy.asarray(image, numpy.float32) for image in images])
        if self.preprocessing["channel_order"] == "bgr":
            values = values[..., ::-1]
        values = (values - numpy.float32(self.preprocessing["mean"])) / numpy.float32(self.preprocessing["std"])
        return torch.from_numpy(values.transpose(0, 3, 1, 2).copy()).contiguous(memory_format=torch.channels_last)


def opened(file):
    """The image on white, as `clr` reads it."""
    image = Image.open(file).convert("RGBA")
    page = Image.new("RGBA", image.size, "white")
    page.alpha_composite(image)
    return page.convert("RGB")


def crop(image, preprocessing, size):
    scale = size / preprocessing["fit"]["center-crop"]["fraction"] / min(image.size)
    image = image.resize([round(side * scale) for side in image.size], Image.Resampling[preprocessing["filter"].upper()])
    left, top = (image.width - size) // 2, (image.height - size) // 2
    return image.crop((left, top, left + size, top + size))


def mild(image):
    """A crop of at least three quarters of the area, a turn of up to 5°, and other brightness and colour."""
    side = round(image.width * math.sqrt(random.uniform(0.75, 1)))
    left, top = random.randint(0, image.width - side), random.randint(0, image.height - side)
    edge = tuple(int(value) for value in numpy.asarray(image)[0, 0])
    turned = image.rotate(random.uniform(-5, 5), Image.Resampling.BILINEAR, fillcolor=edge)
    part = turned.resize(image.size, Image.Resampling.BILINEAR, box=(left, top, left + side, top + side))
    for kind in (ImageEnhance.Brightness, ImageEnhance.Color):
        part = kind(part).enhance(random.uniform(0.85, 1.15))
    return part


class Backbone(torch.nn.Module):
    """The graph up to the features, with every weight trainable, and a head of `classes` classes."""

    def __init__(self, model, classes):
        super().__init__()
        constants = {tensor.name: torch.tensor(numpy_helper.to_array(tensor)) for tensor in model.graph.initializer}
        self.steps, self.layers = [], torch.nn.ModuleList()
        for node in model.graph.node:
            attributes = {entry.name: onnx.helper.get_attribute_value(entry) for entry in node.attribute}
            values = [constants[name] for name in node.input if name in constants]
            inputs = [name for name in node.input if name and name not in constants]
            if node.op_type == "Gemm":
                break
            self.steps.append((inputs, node.output[0], len(self.layers)))
            self.layers.append(layer(node.op_type, attributes, values))
        self.head = torch.nn.Linear(values[0].shape[1], classes)

    def features(self, x):
        values = {"image": x}
        for inputs, output, index in self.steps:
            values[output] = self.layers[index](*[values.get(name, x) for name in inputs])
        return values[output]

    def forward(self, x):
        return self.head(self.features(x))


class Apply(torch.nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, *inputs):
        return self.function(*inputs)


class Convolution(torch.nn.Module):
    def __init__(self, attributes, values):
        super().__init__()
        self.weight = torch.nn.Parameter(values[0].clone())
        self.bias = torch.nn.Parameter(values[1].clone()) if len(values) > 1 else None
        self.stride, self.groups = attributes["strides"][0], attributes.get("group", 1)
        self.same, self.pads = attributes.get("auto_pad") == b"SAME_UPPER", attributes.get("pads", [0] * 4)

    def forward(self, x):
        pads = [self.pads[1], self.pads[3], self.pads[0], self.pads[2]]
        if self.same:
            pads = []
            for size in (x.shape[3], x.shape[2]):
                total = max((-(-size // self.stride) - 1) * self.stride + self.weight.shape[2] - size, 0)
                pads += [total // 2, total - total // 2]
        return functional.conv2d(functional.pad(x, pads), self.weight, self.bias, self.stride, groups=self.groups)


def layer(kind, attributes, values):
    match kind:
        case "Conv":
            return Convolution(attributes, values)
        case "BatchNormalization":
            norm = torch.nn.BatchNorm2d(len(values[0]), attributes.get("epsilon", 1e-5))
            state = zip(("weight", "bias", "running_mean", "running_var"), values)
            norm.load_state_dict(dict(state), strict=False)
            return norm
        case "Clip":
            return Apply(lambda x: x.clamp(*(value.item() for value in values)))
        case "Relu":
            return Apply(functional.relu)
        case "Add":
            return Apply(torch.add)
        case "Concat":
            return Apply(lambda *parts: torch.cat(parts, 1))
        case "MaxPool":
            pads = attributes.get("pads", [0] * 4)
            return Apply(lambda x: functional.max_pool2d(x, attributes["kernel_shape"], attributes["strides"], pads[:2]))
        case "GlobalAveragePool":
            return Apply(lambda x: x.mean((2, 3), keepdim=True))
        case "Flatten":
            return Apply(lambda x: x.flatten(1))
    raise SystemExit(f"operator {kind} is not supported here")


def over(function, images):
    with torch.no_grad():
        return torch.cat([function(images.batch(range(i, min(i + 50, len(images.labels))))) for i in range(0, len(images.labels), 50)])


def fit_head(network, train, validation):
    """Logistic regression on the features, for the L2 penalty with the lowest validation loss."""
    network.eval()
    features, held_out = over(network.features, train), over(network.features, validation)
    best = None
    for penalty in (1e-4, 3e-4, 1e-3, 3e-3, 1e-2):
        head = torch.nn.Linear(features.shape[1], network.head.out_features)
        torch.nn.init.zeros_(head.weight)
        torch.nn.init.zeros_(head.bias)
        optimiser = torch.optim.LBFGS(head.parameters(), max_iter=200, line_search_fn="strong_wolfe")

        def closure():
            optimiser.zero_grad()
            loss = functional.cross_entropy(head(features), train.labels) + penalty * head.weight.pow(2).sum()
            loss.backward()
            return loss

        optimiser.step(closure)
        with torch.no_grad():
            loss = functional.cross_entropy(head(held_out), validation.labels).item()
        if best is None or loss < best[0]:
            best = loss, head.state_dict()
    return best[1]


def measure(network, images):
    network.eval()
    logits = over(network, images)
    return 100 * (logits.argmax(1) == images.labels).float().mean().item(), functional.cross_entropy(logits, images.labels).item()


def tune(network, images, rate, epochs, decay=0.01):
    optimiser = torch.optim.AdamW(network.parameters(), rate, weight_decay=decay)
    count = len(images.labels)
    warm_up = math.ceil(count / BATCH)
    steps = epochs * warm_up
    factor = lambda step: min(1, (step + 1) / warm_up) * (1 + math.cos(math.pi * step / steps)) / 2
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, factor)
    for _ in range(epochs):
        network.train()
        order = torch.randperm(count).tolist()
        for start in range(0, count, BATCH):
            indices = order[start : start + BATCH]
            # Statistics of one image would be those of its pixels alone.
            if len(indices) > 1:
                optimiser.zero_grad()
                logits = network(images.batch(indices, mild))
                functional.cross_entropy(logits, images.labels[indices], label_smoothing=0.1).backward()
                optimiser.step()
            schedule.step()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("backbone")
    parser.add_argument("tasks", nargs="+", type=pathlib.Path)
    parser.add_argument("--limit", type=int, help="maximum number of training images")
    parser.add_argument("--size", type=int, default=96)
    parser.add_argument("--seeds", default="0")
    parser.add_argument("--rates", default="1e-4,3e-4,1e-3")
    parser.add_argument("--epochs", default="10,30")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    model = onnx.load(arguments.backbone)
    preprocessing = json.loads(next(entry.value for entry in model.metadata_props if entry.key == "clr.preprocessing"))
    for task in arguments.tasks:
        labels = sorted(folder.name for folder in (task / "train").iterdir())
        for seed in map(int, arguments.seeds.split(",")):
            split = lambda name, limit: Images(task / name, labels, preprocessing, arguments.size, limit, seed)
            train, validation, test = split("train", arguments.limit), split("val", None), split("test", None)
            head = fit_head(Backbone(model, len(labels)), train, validation)
            best, result = (-1, 0), ""
            for rate in map(float, arguments.rates.split(",")):
                for epochs in map(int, arguments.epochs.split(",")):
                    random.seed(seed)
                    torch.manual_seed(seed)
                    network, started = Backbone(model, len(labels)), time.time()
                    network.head.load_state_dict(head)
                    tune(network, train, rate, epochs)
                    (accuracy, loss), (tested, _) = measure(network, validation), measure(network, test)
                    row = f"{task.name}\t{seed}\t{rate:g}\t{epochs}\t{accuracy:.1f}\t{loss:.3f}\t{tested:.1f}\t{time.time() - started:.0f}"
                    print(row, flush=True)
                    if (accuracy, -loss) > best:
                        best, result = (accuracy, -loss), row
            print(f"{result}\t*", flush=True)


main()
