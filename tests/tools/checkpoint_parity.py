"""Compares imports of real-world checkpoints with PyTorch: file -> clr import -> ONNX -> ONNX Runtime.

    pip install torch torchvision timm transformers onnxruntime numpy safetensors
    cargo build --release --bin clr
    python tests/tools/checkpoint_parity.py target/release/clr [NAME ...]

Every network has seeded random weights and norm statistics taken from noise. Three groups, or those named: `networks` compares
logits and features for every architecture and naming; `layouts` writes the weights of one network in the layouts of training scripts;
`refusals` checks that errors name what is not read and that the hint's command works. One line each;
exits with 1 if one fails.
"""

import argparse
import collections
import copy
import datetime
import enum
import json
import pathlib
import subprocess
import sys
import tempfile

import numpy
import onnxruntime
import safetensors.torch
import timm
import torch
import torchvision
from torch.nn.utils import prune

TOLERANCE = 2e-4
FAILED = []


class Colour(enum.Enum):
    RED = 1


class Config(dict):
    __getattr__ = dict.get


class Ordered(collections.OrderedDict):
    pass


def settle(model, size=96, seed=11):
    """Gives the norms scales and random statistics, the latter from a few batches of noise."""
    torch.manual_seed(seed)
    norms = [m for m in model.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    for module in norms:
        torch.nn.init.uniform_(module.weight, 0.5, 1.5)
        torch.nn.init.uniform_(module.bias, -0.3, 0.3)
    momenta = [m.momentum for m in norms]
    for module in norms:
        module.momentum = None
    model.train()
    with torch.no_grad():
        for _ in range(2):
            model(torch.randn(4, 3, size, size))
    for module, momentum in zip(norms, momenta):
        module.momentum = momentum
    return model.eval()


def clr(*arguments):
    run = subprocess.run([CLR, "import", *map(str, arguments), "--json"], capture_output=True, text=True)
    return run.returncode, run.stdout, run.stderr


def onnx_output(path, image):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: image.numpy()})[0]


def report(label, ok, text):
    if not ok:
        FAILED.append(label)
    print(f"{'ok    ' if ok else 'FAILED'} {label:<58} {text}", flush=True)


def compare(label, source, expected, size, *arguments):
    """Imports `source` and compares the output with `expected(image)`."""
    target = source.with_name("parity.onnx")
    code, out, error = clr(source, "-o", target, "--size", size, *arguments)
    if code:
        return report(label, False, error.strip()[:400])
    document = json.loads(out)
    torch.manual_seed(5)
    image = torch.rand(2, 3, size, size) * 4 - 2
    with torch.no_grad():
        wanted = expected(image).numpy()
    got = onnx_output(target, image)
    if got.shape != wanted.shape:
        return report(label, False, f"shape {got.shape}, expected {wanted.shape}; {document['notes']}")
    difference = float(numpy.abs(got - wanted).max() / numpy.abs(wanted).max())
    report(label, difference <= TOLERANCE, f"{difference:8.1e}  {document['name']}, {document['digest'][:12]}  {'; '.join(document['notes'])[:150]}")
    return document["digest"]


def networks(folder):
    file = folder / "weights.pth"
    for name in ["resnet18", "resnet34", "resnet50", "resnet101", "resnet152", "resnext50_32x4d", "resnext101_32x8d", "resnext101_64x4d", "wide_resnet50_2", "wide_resnet101_2", "mobilenet_v2"]:
        model = settle(getattr(torchvision.models, name)(weights=None, num_classes=7))
        torch.save(model.state_dict(), file)
        compare(f"torchvision {name}", file, model, 160)
    for name in ["resnet18", "resnet34", "resnet50", "resnet101", "resnet152", "resnext50_32x4d", "wide_resnet50_2", "mobilenetv2_100"]:
        model = settle(timm.create_model(name, pretrained=False, num_classes=11))
        safetensors.torch.save_file(model.state_dict(), folder / "timm.safetensors", metadata={"format": "pt"})
        compare(f"timm {name}", folder / "timm.safetensors", model, 160)
    for number, size in ((0, 224), (1, 240), (2, 260)):
        for name in (f"tf_efficientnet_lite{number}", f"efficientnet_lite{number}"):
            model = settle(timm.create_model(name, pretrained=False, num_classes=11))
            torch.save(model.state_dict(), file)
            code, _, error = clr(file, "-o", folder / "x.onnx")
            asks = code == 1 and "--architecture" in error
            report(f"timm {name}: asks, since tensors do not tell", asks, error.strip().splitlines()[0][-100:])
            mine = name.replace("tf_", "").replace("_", "-") if name.startswith("tf_") else f"timm-{name.replace('_', '-')}"
            compare(f"timm {name} as {mine}", file, model, size, "--architecture", mine)
            torch.save({"arch": name, "state_dict": model.state_dict()}, file)
            compare(f"timm {name}, the file says which", file, model, size)
    import transformers

    for depths, kind in (((2, 2, 2, 2), "basic"), ((3, 4, 6, 3), "basic"), ((3, 4, 6, 3), "bottleneck"), ((3, 4, 23, 3), "bottleneck")):
        widths = [64, 128, 256, 512] if kind == "basic" else [256, 512, 1024, 2048]
        config = transformers.ResNetConfig(depths=list(depths), hidden_sizes=widths, layer_type=kind, num_labels=5)
        model = settle(transformers.ResNetForImageClassification(config))
        model.save_pretrained(folder / "hf")
        compare(f"transformers resnet {kind} {depths}", folder / "hf" / "model.safetensors", lambda x: model(x).logits, 160)
        torch.save(model.resnet.state_dict(), file)
        compare(f"transformers resnet {kind} {depths}, body alone", file, lambda x: model.resnet(x).pooler_output.flatten(1), 160)
    for size in (160, 225):
        model = settle(transformers.MobileNetV2ForImageClassification(transformers.MobileNetV2Config(num_labels=5)))
        model.save_pretrained(folder / "hf2")
        compare(f"transformers mobilenet_v2 at {size}", folder / "hf2" / "model.safetensors", lambda x: model(x).logits, size)


def features(model):
    body = copy.deepcopy(model)
    body.fc = torch.nn.Identity()
    return body


def under(prefix, state):
    return {prefix + name: value for name, value in state.items()}


def layouts(folder):
    model = settle(torchvision.models.resnet18(weights=None, num_classes=4))
    state, body = copy.deepcopy(model.state_dict()), features(model)
    average = {name: value * 1.01 if value.is_floating_point() else value for name, value in state.items()}
    file = folder / "layout.pth"

    def check(label, content, expected=model, *arguments, legacy=False, protocol=2):
        torch.save(content, file, pickle_protocol=protocol, _use_new_zipfile_serialization=not legacy)
        return compare(label, file, expected, 64, *arguments)

    for key in ("net", "model", "ema", "state_dict", "model_state_dict", "model_ema", "params_ema", "params", "weights", "backbone"):
        check(f"under {key}", {key: state, "epoch": 3})
    check("under two keys", {"state": {"model": state}})
    check("in a list", [1, state])
    for prefix in ("module.", "model.", "_orig_mod.", "backbone.", "encoder.", "net.", "module._orig_mod.", "_orig_mod.module.", "model.backbone.", "encoder_q."):
        check(f"prefix {prefix}", {"state_dict": under(prefix, state)})
    optimiser = torch.optim.Adam(model.parameters())
    model.train()
    model(torch.randn(2, 3, 64, 64)).sum().backward()
    model.load_state_dict(state)
    optimiser.step()
    model.load_state_dict(state)
    model.eval()
    harmless = {
        "optimizer": optimiser.state_dict(),
        "best_acc1": torch.tensor(69.76),
        "numpy scalar": numpy.float64(0.9),
        "numpy array": numpy.arange(6.0).reshape(2, 3),
        "numpy state": numpy.random.get_state(),
        "rng": torch.get_rng_state(),
        "device": torch.device("cuda:0"),
        "dtype": torch.float16,
        "size": torch.Size([1, 2]),
        "args": argparse.Namespace(lr=0.1, path=pathlib.Path("/data"), device=torch.device("cpu")),
        "windows": pathlib.PureWindowsPath("C:/x"),
        "when": datetime.datetime.now(datetime.timezone.utc),
        "took": datetime.timedelta(seconds=3),
        "default": collections.defaultdict(list, {"a": [1]}),
        "counter": collections.Counter("abc"),
        "ordered": Ordered(a=1),
        "config": Config(a=1),
        "enum": Colour.RED,
        "class": torch.nn.Linear,
        "function": torch.nn.functional.relu,
        "set": {1, 2},
        "frozen": frozenset({"a"}),
        "complex": 1 + 2j,
        "complex tensor": torch.zeros(2, dtype=torch.complex64),
        "bytes": b"abc",
        "bytearray": bytearray(b"abc"),
        "large": 2**400,
        "slice": slice(1, 2),
        "range": range(3),
        "decimal": __import__("decimal").Decimal("1.5"),
        "fraction": __import__("fractions").Fraction(1, 3),
        "uuid": __import__("uuid").uuid4(),
        "deque": collections.deque([1]),
        "partial": __import__("functools").partial(print, 1),
        "quantizer": torch.ao.quantization.MinMaxObserver(),
        "generator": __import__("random").getstate(),
        "none": None,
        "nested": {"deep": [{"deeper": (1, 2.5, "x")}]},
        "loss": torch.nn.CrossEntropyLoss(weight=torch.ones(4)),
        "scheduler": {"milestones": collections.Counter({30: 1})},
    }
    try:
        from omegaconf import OmegaConf

        harmless["omegaconf"] = OmegaConf.create({"a": {"b": [1, 2]}})
    except ImportError:
        pass
    for protocol in (2, 3, 4, 5):
        for legacy in (False, True):
            check(f"{len(harmless)} harmless objects, protocol {protocol}, {'legacy' if legacy else 'zip'}", {**harmless, "state_dict": state}, legacy=legacy, protocol=protocol)
    check("an OrderedDict of another class", Ordered(state))
    check("a whole module", model)
    check("a whole module, legacy", model, legacy=True)
    check("a whole module, protocol 5", {"model": torch.nn.DataParallel(model)}, protocol=5)
    timm_model = settle(timm.create_model("resnet18", pretrained=False, num_classes=4))
    check("a whole module of timm", timm_model, timm_model)
    both = {"model": state, "model_ema": average}
    ema = copy.deepcopy(model)
    ema.load_state_dict(average)
    check("model and ema: model", both)
    check("model and ema: --weights ema", both, ema, "--weights", "ema")
    check("state_dict_ema", {"state_dict_ema": average, "state_dict": state}, ema, "--weights", "state_dict_ema")
    check("ema shadow", {"ema": {"module": average, "decay": 0.99}, "model": state}, ema, "--weights", "ema.module")
    for dtype in (torch.float16, torch.bfloat16):
        narrow = {name: value.to(dtype) if value.is_floating_point() else value for name, value in state.items()}
        rounded = copy.deepcopy(model)
        rounded.load_state_dict(narrow)
        check(f"{dtype}", narrow, rounded)
    check("double", {name: value.double() if value.is_floating_point() else value for name, value in state.items()})
    check("without num_batches_tracked", {k: v for k, v in state.items() if "num_batches" not in k})
    check("channels last", model.to(memory_format=torch.channels_last).state_dict())
    flat = torch.cat([value.float().flatten() for value in state.values()])
    views, at = {}, 0
    for name, value in state.items():
        views[name] = flat[at : at + value.numel()].view(value.shape)
        at += value.numel()
    check("views of one storage", views)
    # Other heads.
    linear = copy.deepcopy(model)
    for label, head in {
        "head: Sequential(Dropout, Linear)": torch.nn.Sequential(torch.nn.Dropout(), torch.nn.Linear(512, 4)),
        "head: no bias": torch.nn.Linear(512, 4, bias=False),
    }.items():
        linear.fc = head
        linear.eval()
        check(label, linear.state_dict(), linear)
    for label, head in {
        "head: two layers": torch.nn.Sequential(torch.nn.Linear(512, 64), torch.nn.ReLU(), torch.nn.Linear(64, 4)),
        "head: norm and linear": torch.nn.Sequential(torch.nn.BatchNorm1d(512), torch.nn.Linear(512, 4)),
        "head: none": torch.nn.Identity(),
    }.items():
        linear.fc = head
        check(label, linear.state_dict(), body)
    for name in ("head", "classifier.1", "last_linear", "head.fc", "linear"):
        renamed = {k.replace("fc.", f"{name}."): v for k, v in state.items()}
        check(f"head called {name}", renamed)
    wrapped = {**under("backbone.", {k: v for k, v in state.items() if not k.startswith("fc.")}), "cls_head.weight": state["fc.weight"], "cls_head.bias": state["fc.bias"]}
    check("body under backbone., head next to it", wrapped)
    check("two dictionaries", {"backbone": {k: v for k, v in state.items() if not k.startswith("fc.")}, "head": {"weight": state["fc.weight"], "bias": state["fc.bias"]}})
    children = torch.nn.Sequential(*list(model.children())[:-1])
    check("Sequential(*children()[:-1])", under("features.", children.state_dict()), body)
    check("head of several tasks", {**state, "age.weight": torch.zeros(3, 512), "age.bias": torch.zeros(3)})
    queries = {**under("module.encoder_q.", state), **under("module.encoder_k.", average), "module.queue": torch.zeros(128, 64)}
    check("encoder_q, encoder_k and a queue", {"state_dict": queries})
    check("encoder_k", {"state_dict": queries}, ema, "--weights", "encoder_k")
    averaged = torch.optim.swa_utils.AveragedModel(model)
    averaged.update_parameters(model)
    check("AveragedModel", averaged.state_dict())
    check("torch.compile", torch.compile(model).state_dict())
    # Several files.
    parts = list(state.items())
    half = len(parts) // 2
    for number, part in enumerate((dict(parts[:half]), dict(parts[half:]))):
        safetensors.torch.save_file({k: v.contiguous() for k, v in part.items()}, folder / f"model-0000{number + 1}-of-00002.safetensors")
        torch.save(part, folder / f"pytorch_model-0000{number + 1}-of-00002.bin")
    for stem, end in (("model", "safetensors"), ("pytorch_model", "bin")):
        index = folder / f"{stem}.{end}.index.json"
        places = {name: f"{stem}-0000{1 if i < half else 2}-of-00002.{end}" for i, (name, _) in enumerate(parts)}
        index.write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": places}))
        compare(f"two files of {end}", index, model, 64)


def refusals(folder):
    file = folder / "refused.pth"

    def refused(label, *parts, source=file):
        code, _, error = clr(source, "-o", folder / "x.onnx", "--size", "64")
        missing = [part for part in (*parts, "hint:") if part not in error]
        report(label, code == 1 and not missing and "panicked" not in error, f"missing {missing}: {error[:300]}" if missing else error.strip().splitlines()[0][-110:])

    for name in ("resnet50d", "seresnet50", "resnetv2_50", "mobilenetv2_140", "efficientnet_b0", "resnet50_gn", "resnet26", "resnest14d"):
        torch.save(timm.create_model(name, pretrained=False).state_dict(), file)
        refused(f"timm {name}", "refused.pth")
    torch.save({"arch": "resnetblur50", "state_dict": timm.create_model("resnetblur50", pretrained=False).state_dict()}, file)
    refused("timm resnetblur50 by its arch", "resnetblur50", "--architecture")
    model = settle(torchvision.models.resnet18(weights=None))
    torch.jit.script(model).save(file)
    refused("TorchScript", "TorchScript")
    torch.save(torch.jit.load(file).state_dict(), folder / "weights.pth")
    compare("TorchScript by its hint", folder / "weights.pth", model, 64)
    torch.save({k: v.numpy() for k, v in model.state_dict().items()}, file)
    refused("NumPy arrays", "numpy")
    torch.save({"weights": {k: torch.from_numpy(v) for k, v in torch.load(file, weights_only=False).items()}}, folder / "weights.pth")
    compare("NumPy arrays by their hint", folder / "weights.pth", model, 64)
    numpy.savez(folder / "weights.npz", **{k: v.numpy() for k, v in model.state_dict().items()})
    refused("npz", "NumPy", source=folder / "weights.npz")
    torch.save({"a": 1}, file)
    refused("no tensors", "no tensors")
    whole = folder / "whole.pth"
    torch.save(model.state_dict(), whole)
    file.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    refused("a file cut in half", "incomplete")
    quantised = torchvision.models.quantization.resnet18(weights=None, quantize=False).eval()
    quantised.fuse_model()
    torch.save(quantised.state_dict(), file)
    refused("norms folded away", "refused.pth")
    stride = copy.deepcopy(model)
    stride.layer4[0].conv1.stride = stride.layer4[0].downsample[0].stride = (1, 1)
    torch.save(stride, file)
    refused("a module whose last stage has no step", "layer4.0.conv1.stride", "expected 2")
    leaky = copy.deepcopy(model)
    leaky.relu = torch.nn.LeakyReLU()
    torch.save(leaky, file)
    refused("a module with another activation", "LeakyReLU", "--architecture resnet18")
    quantised = torchvision.models.quantization.resnet18(weights=None, quantize=True)
    torch.save(quantised.state_dict(), file)
    refused("a quantised network", "quantised")
    torch.save(timm.create_model("resnet18", pretrained=False, in_chans=1).state_dict(), file)
    refused("one channel", "conv1.weight", "[64, 3, 7, 7]", "[64, 1, 7, 7]")
    pruned = copy.deepcopy(model)
    prune.l1_unstructured(pruned.conv1, "weight", 0.3)
    torch.save(pruned.state_dict(), file)
    refused("a pruned layer", "prune.remove")
    prune.remove(pruned.conv1, "weight")
    torch.save(pruned.state_dict(), file)
    compare("a pruned layer by its hint", file, pruned, 64)

    class Attack:
        def __reduce__(self):
            return (__import__("os").system, ("touch " + str(folder / "executed"),))

    torch.save({"state_dict": model.state_dict(), "x": Attack()}, file)
    refused("a pickle that runs a command", "system", "nothing was executed")
    report("nothing was executed", not (folder / "executed").exists(), "")


def main():
    global CLR
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clr", help="the program clr, built")
    parser.add_argument("groups", nargs="*", help="networks, layouts, refusals [default: all]")
    arguments = parser.parse_args()
    CLR = str(pathlib.Path(arguments.clr).resolve())
    torch.set_num_threads(1)
    for group in arguments.groups or ["networks", "layouts", "refusals"]:
        with tempfile.TemporaryDirectory() as folder:
            {"networks": networks, "layouts": layouts, "refusals": refusals}[group](pathlib.Path(folder))
    print(f"{len(FAILED)} failed: {', '.join(FAILED)}" if FAILED else "all ok")
    sys.exit(bool(FAILED))


if __name__ == "__main__":
    main()
