"""What `clr bench` compares with: ONNX Runtime on a model file, PyTorch training the same parameters.

    peers.py ort  '{"model": "merged.onnx", "size": 224, "threads": 1, "seconds": 2}'
    peers.py step '{"architecture": "resnet18", "size": 224, "batch": 16, "threads": 2, "steps": 5}'

Prints one JSON object. Weights are random: only times and memory are of interest.
"""

import json
import resource
import statistics
import sys
import time


def timed(run, seconds, least):
    for _ in range(2):
        run()
    times = []
    begin = time.perf_counter()
    while len(times) < least or time.perf_counter() - begin < seconds:
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return {"median": statistics.median(times), "best": min(times), "runs": len(times)}


def ort(job):
    import numpy
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = job["threads"]
    options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(job["model"], options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    image = numpy.random.default_rng(0).standard_normal((1, 3, job["size"], job["size"]), dtype=numpy.float32)
    result = timed(lambda: session.run(None, {name: image}), job["seconds"], 5)
    result["version"] = "onnxruntime " + onnxruntime.__version__
    return result


def network(architecture, classes):
    """The architecture with CLR sites: frozen convolutions, a depthwise 3x3 behind every k > 1 one, norms with fixed
    statistics and trained scale and bias, a trained head."""
    import torch
    from torch import nn
    from torch.nn import functional

    class Conv(nn.Module):
        def __init__(self, inputs, outputs, kernel, stride=1, groups=1, act=None, same=False):
            super().__init__()
            self.same, self.kernel, self.stride = same, kernel, stride
            padding = 0 if same else kernel // 2
            self.conv = nn.Conv2d(inputs, outputs, kernel, stride, padding, groups=groups, bias=False)
            self.conv.weight.requires_grad_(False)
            self.clr = nn.Conv2d(outputs, outputs, 3, padding=1, groups=outputs, bias=False) if kernel > 1 else None
            self.norm = nn.BatchNorm2d(outputs)
            self.act = act

        def forward(self, x):
            if self.same:
                total = [max((-(-n // self.stride) - 1) * self.stride + self.kernel - n, 0) for n in x.shape[2:]]
                h, w = total
                x = functional.pad(x, (w // 2, w - w // 2, h // 2, h - h // 2))
            x = self.conv(x)
            if self.clr is not None:
                x = self.clr(x)
            x = self.norm(x)
            return self.act(x) if self.act else x

    class Residual(nn.Module):
        def __init__(self, body, shortcut, act):
            super().__init__()
            self.body, self.shortcut, self.act = body, shortcut, act

        def forward(self, x):
            y = self.body(x) + (self.shortcut(x) if self.shortcut is not None else x)
            return self.act(y) if self.act else y

    class Whole(nn.Module):
        def __init__(self, body, features):
            super().__init__()
            self.body, self.head = body, nn.Linear(features, classes)

        def forward(self, x):
            return self.head(self.body(x).mean((2, 3)))

    relu, relu6 = functional.relu, functional.relu6
    layers = []
    if architecture in ("resnet18", "resnet50"):
        deep = architecture == "resnet50"
        layers += [Conv(3, 64, 7, 2, act=relu), nn.MaxPool2d(3, 2, 1)]
        inputs = 64
        for stage, repeats in enumerate((3, 4, 6, 3) if deep else (2, 2, 2, 2)):
            width = 64 << stage
            outputs = width * (4 if deep else 1)
            for block in range(repeats):
                stride = 2 if stage > 0 and block == 0 else 1
                if deep:
                    body = nn.Sequential(
                        Conv(inputs, width, 1, act=relu), Conv(width, width, 3, stride, act=relu), Conv(width, outputs, 1)
                    )
                else:
                    body = nn.Sequential(Conv(inputs, width, 3, stride, act=relu), Conv(width, outputs, 3))
                change = stride != 1 or inputs != outputs
                layers.append(Residual(body, Conv(inputs, outputs, 1, stride) if change else None, relu))
                inputs = outputs
        features = inputs
    elif architecture == "efficientnet-lite0":
        layers.append(Conv(3, 32, 3, 2, act=relu6, same=True))
        inputs = 32
        stages = zip((1, 2, 2, 3, 3, 4, 1), (3, 3, 5, 3, 5, 5, 3), (1, 2, 2, 2, 1, 2, 1), (1, 6, 6, 6, 6, 6, 6),
                     (16, 24, 40, 80, 112, 192, 320))
        for repeats, kernel, stride, expand, outputs in stages:
            for block in range(repeats):
                step, width = (stride if block == 0 else 1), inputs * expand
                body = [Conv(inputs, width, 1, act=relu6)] if expand > 1 else []
                body += [Conv(width, width, kernel, step, groups=width, act=relu6, same=True), Conv(width, outputs, 1)]
                body = nn.Sequential(*body)
                layers.append(Residual(body, None, None) if step == 1 and inputs == outputs else body)
                inputs = outputs
        layers.append(Conv(inputs, 1280, 1, act=relu6))
        features = 1280
    else:
        raise SystemExit(f"unknown architecture {architecture}")
    model = Whole(nn.Sequential(*layers), features)
    # Fixed statistics, as in the default schedule; scale and bias stay trained.
    model.eval()
    return torch, model


def step(job):
    import torch

    torch.manual_seed(0)
    torch.set_num_threads(job["threads"])
    torch, model = network(job["architecture"], 10)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimiser = torch.optim.Adam(trained, lr=1e-3)
    images = torch.randn(job["batch"], 3, job["size"], job["size"])
    classes = torch.arange(job["batch"]) % 10

    def run():
        optimiser.zero_grad(set_to_none=True)
        torch.nn.functional.cross_entropy(model(images), classes).backward()
        optimiser.step()

    result = timed(run, 0, job["steps"])
    result["peak_bytes"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    result["parameters"] = sum(parameter.numel() for parameter in trained)
    result["version"] = "torch " + torch.__version__
    return result


if __name__ == "__main__":
    if len(sys.argv) != 3 or sys.argv[1] not in ("ort", "step"):
        raise SystemExit(__doc__)
    print(json.dumps({"ort": ort, "step": step}[sys.argv[1]](json.loads(sys.argv[2]))))
