"""Checks clr-onnx's reading and writing with onnx.checker and ONNX Runtime.

    cargo build --release -p clr-onnx --example rewrite
    python tests/tools/onnx_check.py --rewrite target/release/examples/rewrite check MODEL.onnx...
    python tests/tools/onnx_check.py --rewrite target/release/examples/rewrite exporters [--only NAME...] [--dynamo]

`check` runs the example on every file and compares, on random images:
    the file with the written backbone; for every recipe the identity adapter's export and merge with the backbone; the random
    adapter's export with its merge and with the reprogrammed graph that gets the adapter as inputs.
`exporters` writes seeded torchvision models at several opsets first. Needs torch, torchvision, onnx, onnxruntime (and
onnxscript for --dynamo). Exits 1 if a difference is above its limit.
"""

import argparse
import json
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
import onnx
import onnxruntime as ort

IDENTITY, ADAPTER = 1e-5, 1e-4
RECIPES = ["linear", "bn", "clr", "clr-scale", "clr-full"]
# The exporters' own names; shufflenet tests the refusal.
MODELS = {
    "resnet18": [11, 13, 17, 18, 21],
    "mobilenet_v2": [11, 13, 17, 20],
    "mobilenet_v3_small": [11, 13, 17],
    "squeezenet1_1": [11, 17],
    "densenet121": [13],
    "googlenet": [17],
    "inception_v3": [13],
    "vgg11_bn": [13],
    "efficientnet_b0": [11, 17],
    "mnasnet0_5": [17],
    "regnet_y_400mf": [17],
    "shufflenet_v2_x0_5": [17],
}


def session(path, optimised=True):
    options = ort.SessionOptions()
    options.log_severity_level = 3
    if not optimised:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def difference(left, right):
    """Largest difference relative to the largest value."""
    return float(np.abs(left - right).max() / max(np.abs(right).max(), 1e-12))


def answer(path, image, feed=None, optimised=True):
    runner = session(path, optimised)
    name = runner.get_inputs()[0].name
    return runner.run(None, {name: image, **(feed or {})})[0]


def initialisers(path):
    model = onnx.load(str(path))
    inputs = {value.name for value in model.graph.input}
    return {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer if t.name in inputs}


def compare(rewrite, model, recipes):
    """Differences by name, as (value, limit)."""
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        run = subprocess.run([rewrite, str(model), str(folder), *recipes], capture_output=True, text=True)
        if run.returncode:
            return {"error": run.stderr.strip()}, {}
        about = json.loads(run.stdout)
        for path in sorted(folder.glob("*.onnx")):
            onnx.checker.check_model(onnx.load(str(path)), full_check=True)
        original = session(model)
        batch, channels, height, width = original.get_inputs()[0].shape
        batch = batch if isinstance(batch, int) else 2
        image = np.random.default_rng(7).normal(size=(batch, channels, height, width)).astype(np.float32)
        expected = answer(folder / "backbone.onnx", image)
        # ONNX Runtime's own rounding: the same file with and without its optimiser. No difference can be held below it.
        noise = difference(answer(folder / "backbone.onnx", image, optimised=False), expected)
        about["rounding"] = float(f"{noise:.1e}")
        identity_limit = max(IDENTITY, 2 * noise)
        first = original.run(None, {original.get_inputs()[0].name: image})[0].reshape(batch, -1)
        results = {}
        if first.shape == expected.shape:
            softmaxed = about["notes"] and "Softmax" in " ".join(about["notes"])
            if not softmaxed:
                results["file = backbone"] = (difference(expected, first), identity_limit)
        for recipe in recipes:
            path = lambda kind, what: folder / f"{recipe}-{kind}-{what}.onnx"  # noqa: E731
            random = answer(path("random", "export"), image)
            feed = initialisers(path("random", "export"))
            results[f"{recipe}: export = merge"] = (difference(answer(path("random", "merge"), image), random), ADAPTER)
            results[f"{recipe}: reprogram = export"] = (difference(answer(path("random", "reprogram"), image, feed), random), ADAPTER)
            identity = answer(path("identity", "export"), image)
            merged = answer(path("identity", "merge"), image)
            results[f"{recipe}: identity export = merge"] = (difference(merged, identity), ADAPTER)
            if about["classes"]:
                results[f"{recipe}: identity = backbone"] = (difference(identity, expected), identity_limit)
                overridden = answer(path("identity", "export"), image, feed_like(feed, initialisers(path("identity", "export"))))
                changed = difference(overridden, identity)
                results[f"{recipe}: overriding changes the answer"] = (0.0 if changed > 1e-3 else 1.0, 0.5)
        return about, results


def feed_like(feed, defaults):
    """The random adapter's parts where they have the same shape, else the defaults."""
    return {name: feed[name] if feed[name].shape == value.shape else value * 1.5 for name, value in defaults.items()}


def export_all(folder, only, dynamo):
    import torch
    import torchvision

    for name, opsets in MODELS.items():
        if only and name not in only:
            continue
        torch.manual_seed(0)
        extra = {"aux_logits": False, "init_weights": True} if name in ("googlenet", "inception_v3") else {}
        model = getattr(torchvision.models, name)(weights=None, num_classes=20, **extra)
        size = 96 if name not in ("inception_v3",) else 128
        if name.startswith(("vgg", "squeezenet")):
            size = 224 if name.startswith("vgg") else 96
        settle(model, size)
        image = torch.randn(2, 3, size, size)
        for opset in [18] if dynamo else opsets:
            # In evaluation mode the exporter folds norms into convolutions; the last opset of each model keeps them.
            kept = not dynamo and opset == opsets[-1]
            path = folder / f"{name}-{'dynamo' if dynamo else 'opset'}{opset}{'-norms' if kept else ''}.onnx"
            options = {"input_names": ["input"], "output_names": ["output"], "opset_version": opset}
            if dynamo:
                torch.onnx.export(model, (image,), str(path), dynamo=True, dynamic_shapes=({0: "batch"},), verbose=False, **options)
            else:
                options["training"] = torch.onnx.TrainingMode.PRESERVE if kept else torch.onnx.TrainingMode.EVAL
                torch.onnx.export(model, image, str(path), dynamo=False, dynamic_axes={"input": {0: "batch"}}, **options)
            yield path


def settle(model, size):
    """Norm statistics of random images and varied norm weights, so that nothing is 0, 1 or vanishing."""
    import torch

    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.weight, 0.7, 1.3)
            torch.nn.init.normal_(module.bias, std=0.1)
            module.momentum = None
    model.train()
    with torch.no_grad():
        model(torch.randn(8, 3, size, size))
    model.eval()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rewrite", required=True, help="the built example `rewrite`")
    parser.add_argument("--recipes", type=lambda text: text.split(","), default=RECIPES, help="separated by commas")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("check").add_argument("models", nargs="+", type=pathlib.Path)
    exporters = commands.add_parser("exporters")
    exporters.add_argument("--only", nargs="*")
    exporters.add_argument("--dynamo", action="store_true")
    exporters.add_argument("--keep", type=pathlib.Path, help="write the models here and keep them")
    arguments = parser.parse_args()

    failed = False
    with tempfile.TemporaryDirectory() as folder:
        keep = getattr(arguments, "keep", None)
        if keep:
            keep.mkdir(parents=True, exist_ok=True)
        models = arguments.models if arguments.command == "check" else export_all(keep or pathlib.Path(folder), arguments.only, arguments.dynamo)
        for model in models:
            about, results = compare(arguments.rewrite, model, arguments.recipes)
            print(f"{model.name}: {json.dumps(about) if 'error' not in about else about['error']}")
            failed |= not about.get("same_after_reading_again", True)
            for name, (value, limit) in results.items():
                bad = not value <= limit
                failed |= bad
                print(f"  {'FAIL' if bad else 'ok  '} {name}: {value:.1e} (limit {limit:.0e})")
            sys.stdout.flush()
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
