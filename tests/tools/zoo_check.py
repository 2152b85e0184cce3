"""Compares ONNX files as exporters write them with the backbones that clr-onnx makes of them, in ONNX Runtime.

    cargo build --release -p clr-onnx --example rewrite
    python tests/tools/zoo_check.py --rewrite target/release/examples/rewrite MODEL.onnx...

For every file: whether it is imported and read back unchanged, how many sites and opaque steps it has, the operators of the
latter, and the largest difference of the logits (or features) relative to the largest value, on random images. Files with
the same network from two exporters may be given together. Exits 1 if a file is refused or a difference is above 1e-4.
"""

import argparse
import collections
import json
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
import onnx
import onnxruntime as ort

LIMIT = 1e-4


def session(path):
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def run(path, images):
    runner = session(path)
    given = runner.get_inputs()[0]
    if isinstance(given.shape[0], int):
        return np.concatenate([runner.run(None, {given.name: image[None]})[0] for image in images])
    return runner.run(None, {given.name: images})[0]


def steps(model):
    """The operators of opaque steps."""
    entries = [json.loads(entry.value) for entry in model.metadata_props if entry.key == "clr.opaque"]
    owner = {node: number for number, step in enumerate(entries[0] if entries else []) for node in step["nodes"]}
    return [node.op_type for node in model.graph.node if node.name in owner], len(entries[0]) if entries else 0


def check(rewrite, path):
    with tempfile.TemporaryDirectory() as folder:
        made = subprocess.run([rewrite, str(path), folder], capture_output=True, text=True)
        if made.returncode:
            return False, made.stderr.strip()
        about = json.loads(made.stdout)
        written = pathlib.Path(folder) / "backbone.onnx"
        model = onnx.load(str(written))
        onnx.checker.check_model(model, full_check=True)
        shape = session(path).get_inputs()[0].shape
        images = np.random.default_rng(0).standard_normal((2, *shape[1:]), dtype=np.float32)
        expected, got = run(path, images), run(written, images)
    operators, count = steps(model)
    text = f"{about['nodes']} nodes, {about['sites']} sites"
    if count:
        most = ", ".join(f"{name} ×{number}" for name, number in collections.Counter(operators).most_common(12))
        text += f", {count} opaque steps ({most})"
    if not about["same_after_reading_again"]:
        return False, f"{text}: NOT THE SAME after reading again"
    if expected.shape != got.shape:
        return False, f"{text}: {got.shape} instead of {expected.shape}"
    difference = float(np.abs(expected - got).max() / max(np.abs(expected).max(), 1e-12))
    return difference <= LIMIT, f"{text}: {difference:.1e}"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rewrite", required=True)
    parser.add_argument("models", nargs="+", type=pathlib.Path)
    arguments = parser.parse_args()
    failed = 0
    for path in arguments.models:
        good, text = check(arguments.rewrite, path)
        failed += not good
        print(f"{'ok  ' if good else 'FAIL'} {path.stem}: {text}", flush=True)
    print(f"{len(arguments.models) - failed} of {len(arguments.models)}")
    return failed > 0


if __name__ == "__main__":
    sys.exit(main())
