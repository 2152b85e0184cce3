"""Trains a ResNet-18 without labels by SimSiam (Chen and He 2020), as a backbone for the study of continual learning.

    python tests/tools/simsiam.py ~/.cache/clr/tasks/{silhouettes,fashion,…} --output simsiam
    clr import simsiam/resnet18-simsiam.pth -o resnet18-simsiam.onnx --size 64
    python tests/tools/simsiam.py TASK... --limit 64 --measure 8             # measures the speed, writes nothing

SimSiam on images of these very tasks, not DINO or SwAV: the network has seen the training images of all tasks, unlabelled, before task 1.

TASK is a folder of `clr fetch`. Training reads images of train/. Labels and val/ serve the accuracy of nearest neighbours alone; without
val/, a fifth of the chosen images is held out for it. test/ is never read. Files in the output folder:

    resnet18-simsiam.pth      the backbone in torchvision's names, without `fc`; after `clr import`, its output is 512 features
    resnet18-untrained.pth    torchvision's initialisation, all γ 1; training then starts with the last γ of each residual block at 0
    resnet18-simsiam.json     arguments, sha256 of both files and of the images, measurements of every epoch
    resnet18-simsiam.run      run state, replaced after every epoch: the same command resumes from it, with the same result

Views: crop of 0.2 to 1 of the area, colour jitter 0.4/0.4/0.4/0.1 (p 0.8; one order of the four per batch), grey (p 0.2); no mirroring, no
blur. Pixels are normalised as ImageNet's, which `clr import` assumes. The rate follows a cosine, the predictor's is constant (as in the
reference code). Each view has its own batch statistics; a last partial batch is left out.

Prints one JSON object per epoch: loss (−1 to 0); deviation, the mean standard deviation of the values of z/|z| (0.044 = 1/√512 is
right, 0 a collapse); every tenth epoch the accuracy of 20 nearest neighbours on features (epoch 0: the untrained network).

Needs: numpy, Pillow, torch.
"""

import argparse
import hashlib
import io
import json
import math
import os
import random
import sys
import time
from pathlib import Path

import numpy
import torch
from PIL import Image
from torch import nn
from torch.nn import functional

SIZE, BATCH, WIDTH, RATE = 64, 64, 512, 0.05 * 64 / 256
STORED = 80  # Side of the decoded images, from which views are cropped.
VALIDATION = 200  # Images per task for the nearest neighbours.
MEAN, STD, LUMA = (torch.tensor(v)[:, None, None] for v in ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225], [0.299, 0.587, 0.114]))


class Block(nn.Module):
    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        shortcut = [nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)] if stride > 1 else []
        self.downsample = nn.Sequential(*shortcut)

    def forward(self, x):
        y = functional.relu(self.bn1(self.conv1(x)))
        return functional.relu(self.bn2(self.conv2(y)) + self.downsample(x))


class ResNet18(nn.Module):
    """torchvision's layers, names and initialisation, without the classifier: [N, 3, H, W] of 0 to 1, to [N, 512]."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        for stage, (inputs, outputs) in enumerate([(64, 64), (64, 128), (128, 256), (256, 512)], 1):
            self.add_module(f"layer{stage}", nn.Sequential(Block(inputs, outputs, outputs // inputs), Block(outputs, outputs, 1)))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images):
        x = self.conv1(((images - MEAN) / STD).contiguous(memory_format=torch.channels_last))
        x = functional.max_pool2d(functional.relu(self.bn1(x)), 3, 2, 1)
        return self.layer4(self.layer3(self.layer2(self.layer1(x)))).float().mean((2, 3))


class SimSiam(nn.Module):
    def __init__(self):
        super().__init__()
        self.backbone = ResNet18()
        layer = lambda affine=True: [nn.Linear(WIDTH, WIDTH, bias=False), nn.BatchNorm1d(WIDTH, affine=affine)]
        self.projector = nn.Sequential(*layer(), nn.ReLU(), *layer(), nn.ReLU(), *layer(affine=False))
        self.predictor = nn.Sequential(nn.Linear(WIDTH, 128, bias=False), nn.BatchNorm1d(128), nn.ReLU(), nn.Linear(128, WIDTH))

    def forward(self, views, precision):
        """The loss, and the standard deviation of z/|z|. Projector and predictor compute in float32 in any case."""
        with torch.autocast("cpu", precision, enabled=precision != torch.float32):
            features = [self.backbone(view) for view in views]
        z = [self.projector(h) for h in features]
        p = [self.predictor(value) for value in z]
        loss = -sum(functional.cosine_similarity(p[i], z[1 - i].detach()).mean() for i in (0, 1)) / 2
        return loss, functional.normalize(torch.stack(z).detach(), dim=2).std(1).mean()


def decoded(file):
    """The image on white, as `clr` reads it, resized on its shorter side and cropped: uint8, [3, STORED, STORED]."""
    image = Image.open(file).convert("RGBA")
    page = Image.new("RGBA", image.size, "white")
    page.alpha_composite(image)
    size = [round(side * STORED / min(image.size)) for side in image.size]
    left, top = ((side - STORED) // 2 for side in size)
    image = page.convert("RGB").resize(size, Image.Resampling.BILINEAR).crop((left, top, left + STORED, top + STORED))
    return numpy.asarray(image).transpose(2, 0, 1)


class Task:
    """Decoded images of one task, chosen by the seed, with the numbers of their class folders."""

    def __init__(self, folder, limit, seed):
        self.name = folder.name
        draw = random.Random(f"{seed} {self.name}")
        parts = []
        for split, most in (("train", limit), ("val", VALIDATION)):
            files = [file for file in sorted((folder / split).glob("*/*")) if file.suffix.lower() in (".png", ".jpg", ".jpeg")]
            parts.append(draw.sample(files, min(most or len(files), len(files))))
        fifth = len(parts[0]) // 5
        parts = parts if parts[1] else [parts[0][fifth:], parts[0][:fifth]]
        if not all(parts):
            sys.exit(f"{folder}: too few images in train/*/\nhint: fetch the task with `clr fetch {self.name}`")
        labels = sorted({file.parent.name for part in parts for file in part})
        self.train, self.val = (torch.from_numpy(numpy.stack([decoded(file) for file in part])) for part in parts)
        self.train_labels, self.val_labels = (torch.tensor([labels.index(file.parent.name) for file in part]) for part in parts)
        self.classes = len(labels)


def hue_shifted(images, shift):
    """Rotates the hue by `shift` of a full circle, [N, 1, 1]."""
    (r, g, b), high = images.unbind(1), images.amax(1)
    span = high - images.amin(1)
    safe = span.clamp_min(1e-8)
    hue = torch.where(high == r, (g - b) / safe, torch.where(high == g, (b - r) / safe + 2, (r - g) / safe + 4)) + 6 * shift
    turns = [(hue + offset) % 6 for offset in (5, 3, 1)]
    return torch.stack([high - span * torch.minimum(k, 4 - k).clamp(0, 1) for k in turns], 1)


def random_views(images, draws):
    """A random view of every image: uint8, [N, 3, STORED, STORED], to [N, 3, SIZE, SIZE] of 0 to 1."""
    count = len(images)
    uniform = lambda low, high: low + (high - low) * torch.rand(count, generator=draws)
    area, ratio = uniform(0.2, 1), torch.exp(uniform(math.log(3 / 4), math.log(4 / 3)))
    width, height = (area * ratio).sqrt().clamp_max(1), (area / ratio).sqrt().clamp_max(1)
    rows = [width, 0 * width, uniform(-1, 1) * (1 - width), 0 * width, height, uniform(-1, 1) * (1 - height)]
    grid = functional.affine_grid(torch.stack(rows, 1).view(count, 2, 3), (count, 3, SIZE, SIZE), align_corners=False)
    x = functional.grid_sample(images.float() / 255, grid, "bilinear", "border", align_corners=False)
    jittered = (uniform(0, 1) < 0.8).float()
    brightness, contrast, saturation = ((1 + jittered * uniform(-0.4, 0.4))[:, None, None, None] for _ in range(3))
    shift = (jittered * uniform(-0.1, 0.1))[:, None, None]
    grey = lambda x: (x * LUMA).sum(1, keepdim=True)
    changes = [
        lambda x: x * brightness,
        lambda x: x * contrast + grey(x).mean((2, 3), keepdim=True) * (1 - contrast),
        lambda x: x * saturation + grey(x) * (1 - saturation),
        lambda x: hue_shifted(x, shift),
    ]
    for index in torch.randperm(4, generator=draws):
        x = changes[index](x).clamp(0, 1)
    return torch.where((uniform(0, 1) < 0.2)[:, None, None, None], grey(x), x)


@torch.no_grad()
def neighbours(backbone, tasks):
    """Accuracy of 20 nearest neighbours per task, on the centre crop of `clr import`; votes are weighted by cosine similarity."""

    def features(images, edge=STORED // 16):
        parts = images[:, :, edge:-edge, edge:-edge].split(BATCH)
        resized = (functional.interpolate(part.float() / 255, (SIZE, SIZE), mode="bilinear", antialias=True) for part in parts)
        return functional.normalize(torch.cat([backbone(part) for part in resized]))

    backbone.eval()
    accuracy = {}
    for task in tasks:
        votes, places = (features(task.val) @ features(task.train).T).topk(min(20, len(task.train)))
        scores = torch.zeros(len(votes), task.classes).scatter_add_(1, task.train_labels[places], votes)
        accuracy[task.name] = round((scores.argmax(1) == task.val_labels).float().mean().item(), 4)
    backbone.train()
    return {"neighbours": round(sum(accuracy.values()) / len(accuracy), 4), "by_task": accuracy}


def write(path, value):
    """Replaces a file atomically by bytes, or by torch.save of another value; returns its sha256."""
    data = io.BytesIO()
    data.write(value) if isinstance(value, bytes) else torch.save(value, data)
    temporary = path.with_name(path.name + ".tmp")
    with open(temporary, "wb") as file:
        file.write(data.getbuffer())
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
    return hashlib.sha256(data.getbuffer()).hexdigest()


class Run:
    def __init__(self, options, images):
        self.options, self.images, self.epoch, self.log = options, images, 0, []
        torch.manual_seed(options.seed)
        self.draws = torch.Generator().manual_seed(options.seed)
        self.model = SimSiam().to(memory_format=torch.channels_last)
        groups = [[*self.model.backbone.parameters(), *self.model.projector.parameters()], self.model.predictor.parameters()]
        self.optimiser = torch.optim.SGD([{"params": group} for group in groups], RATE, momentum=0.9, weight_decay=1e-4)

    def step(self, chosen, precision):
        loss, deviation = self.model([random_views(self.images[chosen], self.draws) for _ in range(2)], precision)
        self.optimiser.zero_grad()
        loss.backward()
        self.optimiser.step()
        return loss.item(), deviation.item()

    def train_epoch(self):
        self.optimiser.param_groups[0]["lr"] = RATE * (1 + math.cos(math.pi * self.epoch / self.options.epochs)) / 2
        steps, begun, measured = len(self.images) // BATCH, time.monotonic(), []
        for chosen in torch.randperm(len(self.images), generator=self.draws).split(BATCH)[:steps]:
            measured.append(self.step(chosen, getattr(torch, self.options.precision)))
            if len(measured) % 10 == 0:
                speed = len(measured) * BATCH / (time.monotonic() - begun)
                print(f"epoch {self.epoch + 1}, step {len(measured)} of {steps}, {speed:.1f} images/s", file=sys.stderr, flush=True)
        self.epoch += 1
        loss, deviation = (round(sum(column) / steps, 6) for column in zip(*measured))
        if not math.isfinite(loss):
            sys.exit(f"epoch {self.epoch}: the loss is {loss}")
        return {"epoch": self.epoch, "loss": loss, "deviation": deviation, "seconds": round(time.monotonic() - begun, 1)}

    def measure(self, steps):
        """Prints images per second, of CPU time if there is one thread."""
        clock = time.process_time if self.options.threads == 1 else time.monotonic
        for precision, ends in (("float32", []), ("bfloat16", [])):
            for number in range(steps + 2):  # The first step prepares the kernels.
                self.step((torch.arange(BATCH) + number * BATCH) % len(self.images), getattr(torch, precision))
                ends.append(clock())
            speed = BATCH / sorted(numpy.diff(ends))[steps // 2]
            fits = ", ".join(f"{int(60 * minutes * speed / 2560)} in {minutes} min" for minutes in (60, 120))
            print(f"{precision:<8} {speed:5.1f} images/s; epochs of 2,560 images: 100 in {256000 / speed / 60:.0f} min, {fits}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tasks", nargs="+", type=Path, metavar="TASK")
    parser.add_argument("--output", type=Path, default=Path("."), metavar="FOLDER")
    numbers = [("limit", 500, "images per task, 0 for all"), ("epochs", 100, "epochs"), ("seed", 0, "seed"), ("threads", 1, "threads")]
    for name, default, text in numbers:
        parser.add_argument(f"--{name}", type=int, default=default, metavar="N", help=f"{text} [default: {default}]")
    parser.add_argument("--precision", choices=["float32", "bfloat16"], default="bfloat16", help="of the backbone [default: bfloat16]")
    parser.add_argument("--measure", type=int, metavar="STEPS", help="measure the speed of so many steps, write nothing")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.use_deterministic_algorithms(True)
    tasks = [Task(folder, options.limit, options.seed) for folder in options.tasks]
    run = Run(options, torch.cat([task.train for task in tasks]))
    print(f"{len(run.images)} training images of {len(tasks)} tasks decoded", file=sys.stderr, flush=True)
    if len(run.images) < BATCH:
        sys.exit(f"expected at least one batch of {BATCH} images")
    if options.measure:
        return run.measure(options.measure)
    pixels = b"".join(part.numpy().tobytes() for task in tasks for part in (task.train, task.val, task.train_labels, task.val_labels))
    identity = {key: getattr(options, key) for key in ("limit", "epochs", "seed", "threads", "precision")}
    counts = {task.name: {"train": len(task.train), "val": len(task.val)} for task in tasks}
    identity |= {"torch": str(torch.__version__), "images_sha256": hashlib.sha256(pixels).hexdigest(), "tasks": counts}
    options.output.mkdir(parents=True, exist_ok=True)
    backbone, path, digests = run.model.backbone, options.output / "resnet18-simsiam.run", {}

    def write_backbone(name):
        digests[name] = write(options.output / name, {key: value.contiguous() for key, value in backbone.state_dict().items()})

    write_backbone("resnet18-untrained.pth")
    if path.exists():
        state = torch.load(path, weights_only=True)
        if different := [key for key in identity if state["identity"].get(key) != identity[key]]:
            sys.exit(f"{path}: {', '.join(different)} of the earlier run differ\nhint: delete the file, or choose another --output")
        run.model.load_state_dict(state["model"])
        run.optimiser.load_state_dict(state["optimiser"])
        run.draws.set_state(state["draws"])
        run.epoch, run.log = state["epoch"], state["log"]
        print(f"resumed after epoch {run.epoch}", file=sys.stderr, flush=True)
    else:
        run.log = [{"epoch": 0} | neighbours(backbone, tasks)]
        for block in (module for module in backbone.modules() if isinstance(module, Block)):
            nn.init.zeros_(block.bn2.weight)
    print("\n".join(json.dumps(entry) for entry in run.log), flush=True)
    while run.epoch < options.epochs:
        entry = run.train_epoch()
        if run.epoch % 10 == 0 or run.epoch == options.epochs:
            entry |= neighbours(backbone, tasks)
        run.log.append(entry)
        state = {"identity": identity, "epoch": run.epoch, "log": run.log, "draws": run.draws.get_state()}
        write(path, state | {"model": run.model.state_dict(), "optimiser": run.optimiser.state_dict()})
        print(json.dumps(entry), flush=True)
    write_backbone("resnet18-simsiam.pth")
    result = json.dumps({"arguments": identity, "sha256": digests, "log": run.log}, indent=1) + "\n"
    write(options.output / "resnet18-simsiam.json", result.encode())


if __name__ == "__main__":
    main()
