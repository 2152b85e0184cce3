"""Writes the small checkpoints and expected values that the tests of onnx/src/checkpoint read.

    pip install torch numpy safetensors
    python tests/tools/torch_fixtures.py onnx/src/checkpoint/tests/fixtures
"""

import json
import sys
from collections import OrderedDict
from pathlib import Path

import torch
from safetensors.torch import save_file


def tensors():
    generator = torch.Generator().manual_seed(1)
    base = torch.arange(24, dtype=torch.float32) / 8
    grid = base.view(4, 6)
    state = OrderedDict()
    state["f32"] = torch.randn(2, 3, generator=generator)
    state["f16"] = torch.randn(5, generator=generator).half()
    state["bf16"] = torch.randn(5, generator=generator).bfloat16()
    state["f64"] = torch.randn(3, 1, generator=generator, dtype=torch.float64)
    state["i64"] = torch.tensor([-3, 0, 70000])
    state["scalar"] = torch.tensor(2.5)
    state["empty"] = torch.zeros(0, 3)
    state["parameter"] = torch.nn.Parameter(torch.randn(4, generator=generator))
    # Views of one storage: an offset, a transposition, a channels-last layout and a repetition.
    state["view.rows"] = grid[1:3]
    state["view.transposed"] = grid[1:3, 2:5].t()
    state["view.channels_last"] = base.view(2, 2, 2, 3).contiguous(memory_format=torch.channels_last)
    state["view.repeated"] = base[3:4].expand(2, 3)
    return state


def main(folder):
    folder.mkdir(parents=True, exist_ok=True)
    state = tensors()
    for protocol in (2, 3, 4, 5):
        for zipped in (False, True):
            name = f"{'zip' if zipped else 'legacy'}-protocol{protocol}.pth"
            # Protocols 3 and 5 carry the nesting and the prefix of a training script.
            prefixed = OrderedDict((f"module.{key}", value) for key, value in state.items())
            nested = {"epoch": 3, "best": 0.75, "state_dict": prefixed, "note": None}
            content = nested if protocol % 2 else state
            torch.save(content, folder / name, pickle_protocol=protocol, _use_new_zipfile_serialization=zipped)
    contiguous = {name: value.detach().clone(memory_format=torch.contiguous_format) for name, value in state.items()}
    save_file(contiguous, folder / "tensors.safetensors")
    expected = {
        name: {"shape": list(value.shape), "values": value.detach().float().reshape(-1).tolist()}
        for name, value in sorted(state.items())
    }
    (folder / "tensors.json").write_text(json.dumps(expected, indent=1) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
