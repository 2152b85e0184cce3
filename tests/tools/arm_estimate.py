"""Instructions per image of a program for 64-bit ARM, counted by an emulator, and an estimate of its cycles.

    arm_estimate.py [--cpu cortex-a76] [--models neoverse-n1,cortex-a55] [--qemu qemu-aarch64] [--sysroot DIR] [--json] COMMAND...

COMMAND is a program with its arguments, in which `{}` is the number of images, such as `target/aarch64-unknown-linux-gnu/release/
examples/repeat lite0.onnx {}`. It runs with two and with four images, so that loading cancels out.

Needs gcc, QEMU with plugins (Debian: qemu-user, not qemu-user-static) and LLVM's llvm-mc and llvm-mca (18 or later).

The estimate sums, over basic blocks, executions times cycles. For a block that repeats itself, these are the cycles that llvm-mca
finds for one of many repetitions, waiting for results included; for other blocks, those that the instructions need without
waiting. It assumes that all data are in the L1 cache and that no branch is mispredicted: it is a lower bound of the time.
"""

import argparse
import collections
import json
import os
import re
import subprocess
import tempfile
from pathlib import Path

REPEATS = 60
# Blocks beyond this share of the instructions are estimated with the mean of the others.
COVERED = 0.995


def count(arguments, folder, images):
    """Returns the executions of each block, by its code."""
    plugin, out = folder / "blocks.so", folder / "blocks.txt"
    if not plugin.exists():
        source = Path(__file__).with_name("arm_blocks.c")
        subprocess.run(["gcc", "-O2", "-shared", "-fPIC", "-o", plugin, source], check=True)
    command = [part.replace("{}", str(images)) for part in arguments.command]
    sysroot = ["-L", arguments.sysroot]
    for variable in arguments.env:
        sysroot += ["-E", variable]
    subprocess.run([arguments.qemu, "-cpu", arguments.cpu, *sysroot, "-plugin", f"{plugin},out={out}", *command], check=True,
        stdout=subprocess.DEVNULL)
    blocks = collections.Counter()
    for line in out.read_text().splitlines():
        executions, _, code = line.split()
        blocks[code] += int(executions)
    return blocks


def disassemble(arguments, codes):
    """Returns the instructions of each block."""
    lines = []
    for code in codes:
        words = [code[at:at + 8] for at in range(0, len(code), 8)]
        lines += [" ".join("0x" + word[at:at + 2] for at in (6, 4, 2, 0)) for word in words]
    result = subprocess.run([arguments.llvm_mc, "-disassemble", "-triple=aarch64", "-mattr=+all"], input="\n".join(lines),
        capture_output=True, text=True, check=True)
    instructions = [line.strip() for line in result.stdout.splitlines() if line.strip() and not line.strip().startswith(".")]
    if len(instructions) != len(lines):
        raise SystemExit(f"{len(lines)} instructions, but {len(instructions)} disassembled:\n{result.stderr[:500]}")
    blocks, at = [], 0
    for code in codes:
        blocks.append(instructions[at:at + len(code) // 8])
        at += len(code) // 8
    return blocks


def cycles(arguments, model, blocks):
    """Returns the cycles of each block."""
    source = []
    for index, block in enumerate(blocks):
        source += [f"# LLVM-MCA-BEGIN {index}", *block, "# LLVM-MCA-END"]
    result = subprocess.run([arguments.llvm_mca, "-mtriple=aarch64", f"-mcpu={model}", "-mattr=+all", f"-iterations={REPEATS}",
        "-all-views=false", "-summary-view", "-skip-unsupported-instructions=lack-sched"],
        input="\n".join(source) + "\n", capture_output=True, text=True)
    repeated = [int(value) / REPEATS for value in re.findall(r"Total Cycles: *(\d+)", result.stdout)]
    without_waiting = [float(value) for value in re.findall(r"Block RThroughput: *([\d.]+)", result.stdout)]
    if not len(repeated) == len(without_waiting) == len(blocks):
        raise SystemExit(f"{len(blocks)} blocks, but {len(repeated)} simulated:\n{result.stderr[:500]}")
    loops = [block[-1].endswith(f"#-{4 * (len(block) - 1)}") for block in blocks]
    return [cycles[0] if loop else cycles[1] for loop, *cycles in zip(loops, repeated, without_waiting)]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cpu", default="cortex-a76", help="CPU of the emulator")
    parser.add_argument("--models", default="", help="CPUs of llvm-mca, separated by commas")
    parser.add_argument("--qemu", default="qemu-aarch64")
    parser.add_argument("--sysroot", default="/usr/aarch64-linux-gnu")
    parser.add_argument("--env", action="append", default=[], help="NAME=VALUE of the program's environment")
    parser.add_argument("--llvm-mc", default="llvm-mc")
    parser.add_argument("--llvm-mca", default="llvm-mca")
    parser.add_argument("--top", type=int, default=0, help="blocks to print")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("command", nargs=argparse.REMAINDER)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        two, four = (count(arguments, Path(folder), images) for images in (2, 4))
    # A block that is translated twice, or differently in the two runs, has the counts of the same code added.
    per_image = {code: (four[code] - two[code]) / 2 for code in four if four[code] > two[code]}
    weight = {code: executions * len(code) / 8 for code, executions in per_image.items()}
    total = (sum(executions * len(code) for code, executions in four.items())
        - sum(executions * len(code) for code, executions in two.items())) / 16
    result = {"cpu": arguments.cpu, "instructions": round(total)}
    ranked = sorted(weight, key=weight.get, reverse=True)
    covered, kept = 0, []
    for code in ranked:
        if covered >= COVERED * sum(weight.values()):
            break
        covered += weight[code]
        kept.append(code)
    models = [model for model in arguments.models.split(",") if model]
    blocks = disassemble(arguments, kept) if models or arguments.top else []
    found = {model: cycles(arguments, model, blocks) for model in models}
    for model in models:
        spent = sum(per_image[code] * each for code, each in zip(kept, found[model]))
        result.setdefault("cycles", {})[model] = round(spent * total / covered)
    if arguments.json:
        print(json.dumps(result))
    else:
        print(f"{arguments.cpu}: {total / 1e6:.1f} M instructions per image")
        for model in models:
            print(f"  {model}: {result['cycles'][model] / 1e6:.1f} M cycles")
    for index, code in enumerate(kept[:arguments.top]):
        each = ", ".join(f"{model} {found[model][index]:.1f} cycles" for model in models)
        print(f"\n{100 * weight[code] / total:.1f} % of the instructions, {len(code) // 8} instructions, {each}")
        print("    " + "\n    ".join(blocks[index]))


if __name__ == "__main__":
    main()
