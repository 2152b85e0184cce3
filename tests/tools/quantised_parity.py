"""Compares each step of quantised networks with the integers that ONNX Runtime computed.

    quantised_parity.py FOLDER [--only TEXT] [--program target/release/examples/quantised_steps]

FOLDER is what `quantised_networks.py` wrote. For every quantised file, each step of CLR reads the values that ONNX Runtime
computed before it, so that differences do not add up. Prints a Markdown table: values that are compared, the share that is
equal, and the largest difference in quanta. Build the program with
`cargo build --release -p clr-runtime --example quantised_steps`.
"""

import argparse
import json
import pathlib
import subprocess
import sys
import tempfile

import numpy


def write(folder, archive, about, image):
    archive["images"][image].astype("<f4").tofile(folder / "image.f32")
    names = []
    for tensor in about["tensors"]:
        values = archive[tensor["key"]][image]
        if values.dtype == numpy.int8:
            values = (values.astype(numpy.int16) + 128).astype(numpy.uint8)
        values.tofile(folder / f"{len(names)}.u8")
        names.append(tensor["node"])
    (folder / "names.txt").write_text("\n".join(names) + "\n")


def compare(program, model, image):
    archive = numpy.load(model.with_suffix(".npz"))
    about = json.loads(bytes(archive["about"]))
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        write(folder, archive, about, image)
        run = subprocess.run([program, str(model), str(folder)], capture_output=True, text=True)
    if run.returncode:
        return None, run.stderr.strip().splitlines()[-1]
    rows = [line.split("\t") for line in run.stdout.splitlines()]
    logits = [numpy.array(numbers, dtype=float) for name, *numbers in rows if name == "logits"]
    return classes(logits[0], archive["logits"][image]) if logits else "", [
        (name, *map(int, numbers)) for name, *numbers in rows if name != "logits"
    ]


def classes(ours, theirs):
    """The five largest logits: how many are the same, and the difference in the range of the reference's logits."""
    top = [set(numpy.argsort(-logits, kind="stable")[:5].tolist()) for logits in (ours, theirs)]
    error = numpy.linalg.norm(ours - theirs) / numpy.linalg.norm(theirs - theirs.mean())
    return f"{len(top[0] & top[1])}, {error:.3f}"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--only", default="", help="a part of the names of the files to compare")
    parser.add_argument("--program", default="target/release/examples/quantised_steps")
    parser.add_argument("--image", type=int, default=0)
    arguments = parser.parse_args()
    print("| network | steps on bytes | values | equal | largest difference | of the five largest logits of a complete pass, error | steps with more than one quantum |")
    print("|---|---|---|---|---|---|---|")
    worst = 0
    for archive in sorted(arguments.folder.glob("*.npz")):
        if arguments.only not in archive.name:
            continue
        same, rows = compare(arguments.program, archive.with_suffix(".onnx"), arguments.image)
        if same is None:
            print(f"| {archive.stem} | {rows} | | | | | |", flush=True)
            worst = 255
            continue
        on_bytes = [row for row in rows if row[1]]
        values = sum(row[1] for row in on_bytes)
        differing = sum(row[2] + row[3] for row in on_bytes)
        largest = max((row[4] for row in on_bytes), default=0)
        over = [row[0] for row in on_bytes if row[3]]
        worst = max(worst, largest)
        share = 100 * (1 - differing / max(values, 1))
        print(f"| {archive.stem} | {len(on_bytes)} of {len(rows)} | {values} | {share:.4f} % | {largest} | {same} | {', '.join(over[:3])} |",
              flush=True)
    sys.exit(worst > 1)


if __name__ == "__main__":
    main()
