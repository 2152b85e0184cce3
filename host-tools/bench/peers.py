"""One peer of `clr bench`: loads a network in this process and runs it on request.

    peers.py onnxruntime|openvino|ncnn|mnn|pytorch JOB
    peers.py installed '["numpy", "onnxruntime"]'      the versions of packages, null for those that are not installed

Job of inference: {"model": "net.onnx", "input": "input.f32", "size": [height, width], "threads": 1, "folder": "/tmp/x"}
Job of training:  {"networks": ["resnet18"], "size": 224, "batch": 16, "threads": 2, "classes": 10}

Protocol: one JSON object per line. First `ready` (with versions) or `failed` (a reason). Then a reply to each request on stdin: {"run": {"seconds": 0.5, "least": 3}} gives times in seconds,
{"output": "out.f32"} writes the output. All is computed in float32. The end of stdin ends the process.
"""

import importlib.metadata
import json
import os
import resource
import statistics
import subprocess
import sys
import time


def versions(*packages):
    return ", ".join(f"{package} {importlib.metadata.version(package)}" for package in packages)


def peak_bytes():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def image(job):
    import numpy

    return numpy.fromfile(job["input"], dtype=numpy.float32).reshape(1, 3, *job["size"])


def convert(command, folder):
    done = subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace")
    if done.returncode != 0:
        lines = [line.strip() for line in done.stdout.splitlines() if line.strip()]
        raise RuntimeError(f"conversion ended with {done.returncode}: {lines[-1] if lines else 'no reason given'}")


class OnnxRuntime:
    def __init__(self, job):
        import onnxruntime as ort

        self.version = versions("onnxruntime")
        options = ort.SessionOptions()
        options.intra_op_num_threads = job["threads"]
        options.inter_op_num_threads = 1
        self.session = ort.InferenceSession(job["model"], options, providers=["CPUExecutionProvider"])
        self.feed = {self.session.get_inputs()[0].name: image(job)}
        self.outputs = [self.session.get_outputs()[0].name]

    def run(self):
        return self.session.run(self.outputs, self.feed)[0]

    output = run


class OpenVino:
    def __init__(self, job):
        import openvino

        self.version = versions("openvino")
        core = openvino.Core()
        model = core.read_model(job["model"])
        model.reshape([1, 3, *job["size"]])
        options = {
            "INFERENCE_NUM_THREADS": job["threads"],
            "NUM_STREAMS": 1,
            "PERFORMANCE_HINT": "LATENCY",
            # On CPUs with matrix units the default is bfloat16.
            "INFERENCE_PRECISION_HINT": "f32",
        }
        self.request = core.compile_model(model, "CPU", options).create_infer_request()
        # Set once: the copy of the input is not timed.
        self.request.set_input_tensor(0, openvino.Tensor(image(job)))

    def run(self):
        self.request.infer()

    def output(self):
        self.run()
        return self.request.get_output_tensor(0).data


class Ncnn:
    def __init__(self, job):
        import ncnn
        import pnnx

        self.version = versions("ncnn", "pnnx")
        shape = ",".join(map(str, (1, 3, *job["size"])))
        folder = job["folder"]
        names = {
            key: os.path.join(folder, name)
            for key, name in {
                "pnnxparam": "pnnx.param",
                "pnnxbin": "pnnx.bin",
                "pnnxpy": "pnnx_model.py",
                "pnnxonnx": "pnnx.onnx",
                "ncnnparam": "ncnn.param",
                "ncnnbin": "ncnn.bin",
                "ncnnpy": "ncnn_model.py",
            }.items()
        }
        convert(
            [pnnx.EXEC_PATH, os.path.abspath(job["model"]), f"inputshape=[{shape}]", "fp16=0"]
            + [f"{key}={path}" for key, path in names.items()],
            folder,
        )
        self.net = ncnn.Net()
        options = self.net.opt
        options.num_threads = job["threads"]
        options.use_vulkan_compute = False
        options.use_fp16_packed = options.use_fp16_storage = options.use_fp16_arithmetic = False
        options.use_bf16_storage = False
        if self.net.load_param(names["ncnnparam"]) != 0 or self.net.load_model(names["ncnnbin"]) != 0:
            raise RuntimeError("ncnn lacks a layer of the converted network")
        self.names = self.net.input_names()[0], self.net.output_names()[0]
        # The Mat reads the array's memory.
        self.array = image(job)[0]
        self.image = ncnn.Mat(self.array)

    def run(self):
        extractor = self.net.create_extractor()
        extractor.input(self.names[0], self.image)
        code, result = extractor.extract(self.names[1])
        if code != 0:
            raise RuntimeError(f"ncnn stopped with {code}")
        return result

    def output(self):
        import numpy

        return numpy.array(self.run())


class Mnn:
    def __init__(self, job):
        import MNN
        import numpy

        self.version = versions("MNN")
        self.path = os.path.join(job["folder"], "network.mnn")
        # The converter itself: the program around it installs a package and reports over the network.
        arguments = ["mnnconvert", "-f", "ONNX", "--modelFile", job["model"], "--MNNModel", self.path, "--bizCode", "clr"]
        convert([sys.executable, "-c", f"import _tools; _tools.mnnconvert({arguments!r})"], job["folder"])
        self.interpreter = MNN.Interpreter(self.path)
        self.session = self.interpreter.createSession(
            {"backend": "CPU", "numThread": job["threads"], "precision": "high"}
        )
        shape = (1, 3, *job["size"])
        self.interpreter.resizeTensor(self.interpreter.getSessionInput(self.session), shape)
        self.interpreter.resizeSession(self.session)
        kind, layout = MNN.Halide_Type_Float, MNN.Tensor_DimensionType_Caffe
        self.image = MNN.Tensor(shape, kind, image(job), layout)
        self.empty = lambda shape: MNN.Tensor(shape, kind, numpy.zeros(shape, numpy.float32), layout)

    def run(self):
        # Copied for every run: a session uses the input's memory for other values.
        self.interpreter.getSessionInput(self.session).copyFrom(self.image)
        self.interpreter.runSession(self.session)

    def output(self):
        import numpy

        self.run()
        result = self.interpreter.getSessionOutput(self.session)
        host = self.empty(result.getShape())
        result.copyToHostTensor(host)
        return numpy.array(host.getNumpyData())


class PyTorch:
    """Training of a torchvision or timm network with the sites of recipe `clr`: frozen convolutions, each followed by a
    depthwise 3x3 where its kernel is larger than 1x1, and by a trained scale and bias per channel (its norm's, with fixed
    statistics, where it has one); a trained head."""

    def __init__(self, job):
        import timm
        import torch
        import torchvision

        self.version = versions("torch")
        self.library_bytes = peak_bytes()
        torch.manual_seed(0)
        torch.set_num_threads(job["threads"])
        self.name, model = create(job["networks"], job["classes"])
        self.torch, self.model = torch, model.eval()
        images = torch.randn(job["batch"], 3, job["size"], job["size"])
        reprogram(torch, model, images[:1], job["classes"])
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self.parameters = sum(parameter.numel() for parameter in trained)
        self.optimiser = torch.optim.Adam(trained, lr=1e-3)
        self.images, self.classes = images, torch.arange(job["batch"]) % job["classes"]

    def run(self):
        self.optimiser.zero_grad(set_to_none=True)
        self.torch.nn.functional.cross_entropy(self.model(self.images), self.classes).backward()
        self.optimiser.step()


def create(candidates, classes):
    """The network under the name that torchvision or timm knows, with a head of `classes`."""
    import timm
    import torchvision

    known = dict.fromkeys(timm.list_models(), "timm")
    known.update(dict.fromkeys(torchvision.models.list_models(torchvision.models), "torchvision"))
    found = [name for name in candidates if name.removeprefix("timm/").removeprefix("torchvision/") in known]
    if not found:
        raise RuntimeError(f"neither torchvision nor timm has a network '{candidates[0]}'")
    if len(found) > 1:
        raise RuntimeError(f"the name could be any of {', '.join(found)}")
    library, _, name = found[0].rpartition("/")
    library = library or known[name]
    if library == "timm":
        return f"timm/{name}", timm.create_model(name, pretrained=False, num_classes=classes)
    more = {"aux_logits": False, "init_weights": True} if name in ("googlenet", "inception_v3") else {}
    return f"torchvision/{name}", torchvision.models.get_model(name, weights=None, num_classes=classes, **more)


def reprogram(torch, model, example, classes):
    """Freezes the network and adds the sites."""
    nn = torch.nn

    class DenseSite(nn.Module):
        """A dense layer on a map with the channels last, which ONNX files show as a 1x1 convolution."""

        def __init__(self, dense):
            super().__init__()
            self.dense = dense
            self.scale = nn.Parameter(torch.ones(dense.out_features))
            self.bias = nn.Parameter(torch.zeros(dense.out_features))

        def forward(self, x):
            return self.dense(x) * self.scale + self.bias

    class Site(nn.Module):
        def __init__(self, conv, affine):
            super().__init__()
            channels = conv.out_channels
            self.conv = conv
            self.kernel = None
            if max(conv.kernel_size) > 1:
                self.kernel = nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False)
            self.scale = nn.Parameter(torch.ones(channels, 1, 1)) if affine else None
            self.bias = nn.Parameter(torch.zeros(channels, 1, 1)) if affine else None

        def forward(self, x):
            x = self.conv(x)
            if self.kernel is not None:
                x = self.kernel(x)
            return x if self.scale is None else x * self.scale + self.bias

    convolutions = {name: module for name, module in model.named_modules() if isinstance(module, nn.Conv2d)}
    heads = [module for module in model.modules() if isinstance(module, nn.Linear)]
    if not heads:
        # SqueezeNet: the head is a 1x1 convolution before the mean.
        heads = [conv for conv in convolutions.values() if conv.out_channels == classes and max(conv.kernel_size) == 1]
    if not heads:
        raise RuntimeError("the network has no layer that is its head")
    head = heads[-1]
    # A norm belongs to the convolution whose result it reads; the results are kept so that no other value takes their place.
    results, owned, on_maps = {}, {}, []
    hooks = []
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d):
            hooks.append(module.register_forward_hook(
                lambda _, __, result, name=name: results.__setitem__(id(result), (name, result))))
        elif isinstance(module, nn.Linear):
            hooks.append(module.register_forward_hook(
                lambda _, __, result, name=name: on_maps.append(name) if result.dim() == 4 else None))
        elif isinstance(module, nn.BatchNorm2d):
            hooks.append(module.register_forward_pre_hook(
                lambda norm, inputs: owned.__setitem__(results[id(inputs[0])][0], norm) if id(inputs[0]) in results else None))
    with torch.no_grad():
        model(example)
    for hook in hooks:
        hook.remove()
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    for norm in owned.values():
        for parameter in norm.parameters():
            parameter.requires_grad_(True)
    for parameter in head.parameters():
        parameter.requires_grad_(True)
    for name, conv in convolutions.items():
        if conv is head:
            continue
        parent, _, attribute = name.rpartition(".")
        setattr(model.get_submodule(parent), attribute, Site(conv, name not in owned))
    for name in on_maps:
        parent, _, attribute = name.rpartition(".")
        setattr(model.get_submodule(parent), attribute, DenseSite(model.get_submodule(name)))


def timed(run, seconds, least):
    times = []
    begin = time.perf_counter()
    while len(times) < least or time.perf_counter() - begin < seconds:
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return {"median": statistics.median(times), "best": min(times), "runs": len(times)}


def serve(peer, replies):
    def reply(document):
        replies.write(json.dumps(document) + "\n")
        replies.flush()

    # Warm: the first runs allocate.
    for _ in range(2):
        peer.run()
    reply({"ready": {"version": peer.version, "network": getattr(peer, "name", None),
                     "parameters": getattr(peer, "parameters", None),
                     "library_bytes": getattr(peer, "library_bytes", None)}})
    for line in sys.stdin:
        request = json.loads(line)
        if "run" in request:
            times = timed(peer.run, **request["run"])
            times["peak_bytes"] = peak_bytes()
            reply({"times": times})
        else:
            import numpy

            numpy.ascontiguousarray(peer.output(), dtype=numpy.float32).tofile(request["output"])
            reply({"written": True})


def installed(packages):
    found = {}
    for package in packages:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = None
    return found


def main():
    peers = {"onnxruntime": OnnxRuntime, "openvino": OpenVino, "ncnn": Ncnn, "mnn": Mnn, "pytorch": PyTorch}
    if len(sys.argv) == 3 and sys.argv[1] == "installed":
        print(json.dumps(installed(json.loads(sys.argv[2]))))
        return
    if len(sys.argv) != 3 or sys.argv[1] not in peers:
        raise SystemExit(__doc__)
    # Libraries print to stdout as well: replies have a separate descriptor.
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    try:
        peer = peers[sys.argv[1]](json.loads(sys.argv[2]))
        serve(peer, replies)
    except Exception as error:
        text = str(error).strip()
        # A KeyError's text is the key alone.
        reason = text.splitlines()[0] if text and not isinstance(error, KeyError) else f"{type(error).__name__} {text}".strip()
        print(json.dumps({"failed": reason}), file=replies, flush=True)


if __name__ == "__main__":
    main()
