"""The device engine against ONNX Runtime on the same export and the same images.

    clr merge --backbone lite0.onnx --adapter lite0.original.clr --output merged.onnx
    cargo run --release -p clr-engine --example logits -- lite0.onnx lite0.original.clr out/ TASK/test...
    python tests/tools/engine_against_onnxruntime.py merged.onnx out/

Prints the largest difference of a logit and how many images have another top 5; fails above 1e-3 or if any has.
Needs: numpy, onnxruntime.
"""

import json
import pathlib
import sys

import numpy
import onnxruntime

model, folder = sys.argv[1], pathlib.Path(sys.argv[2])
session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
_, _, height, width = session.get_inputs()[0].shape
inputs = numpy.memmap(folder / "inputs.f32", "<f4", "r").reshape(-1, 1, 3, height, width)
ours = numpy.fromfile(folder / "logits.f32", "<f4").reshape(len(inputs), -1)
largest = 0.0
scale = 0.0
different = []
for index, image in enumerate(inputs):
    theirs = session.run(None, {session.get_inputs()[0].name: image})[0][0]
    largest = max(largest, float(abs(theirs - ours[index]).max()))
    scale = max(scale, float(abs(theirs).max()))
    top = [set(numpy.argsort(-logits, kind="stable")[:5]) for logits in (theirs, ours[index])]
    if top[0] != top[1]:
        gap = numpy.sort(theirs)[::-1]
        different.append({"picture": index, "gap_of_fifth_and_sixth": float(gap[4] - gap[5])})
print(json.dumps({"pictures": len(inputs), "largest_difference": largest, "largest_logit": scale, "other_top_5": different}))
sys.exit(0 if len(inputs) and largest < 1e-3 and not different else 1)
