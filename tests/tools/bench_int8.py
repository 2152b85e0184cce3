"""Latency of int8 networks: one image, one thread, all engines in one run and in turns.

    python tests/tools/bench_int8.py FOLDER
    python tests/tools/bench_int8.py FOLDER --clr target/release/clr --tensorflow TF-VENV/bin/python -o int8.json
    python tests/tools/bench_int8.py FOLDER --networks lite0 --engines onnxruntime,litert --rounds 21

FOLDER has (or gets) the files of quantised_networks.py and those converted from them. Prints Markdown tables. Run it on an idle
machine, and once with `--rounds 1` before: conversion takes minutes.

    onnxruntime    NETWORK.qdq-u8-channel.onnx, all optimisations
    openvino       the same file
    openvino-nncf  NETWORK.onnx, quantised by NNCF
    ncnn           not measured: its pip package has no quantiser
    litert         NETWORK.onnx, quantised by TensorFlow (onnx_to_tflite.py, with --tensorflow), executed by XNNPACK
    clr            NETWORK.qdq-u8-channel.onnx, by `clr bench` (with --clr)

`NETWORK+clr` is the network with an adapter (one epoch on the task `furniture`): the peers run the file that `clr merge` writes,
quantised like the others, and clr runs NETWORK.qdq-u8-channel.onnx with an adapter of recipe `clr`.

Each round gives every engine a turn of --seconds, beginning with another one, and keeps the best time of each turn. A ratio is
the median over the rounds of an engine's time divided by that of the fastest peer in the same round. An engine whose logits
differ from the float network's by more than --error of their norm isn't measured: that is a wrong output, not rounding. clr's
logits aren't compared here. Networks other than Lite0 have random weights: their errors say little of trained ones.

Needs: numpy, onnx, onnxruntime, pillow; of the engines those that are installed: openvino, nncf, ai-edge-litert.
"""

import argparse
import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import tempfile

import numpy as np
import onnx

import quantised_networks as source
from bench_networks import milliseconds, summary

HERE = pathlib.Path(__file__).resolve().parent
# The workers of `clr bench`: their protocol, and the peers that need no more than another file.
sys.path.append(str(HERE.parents[1] / "host-tools" / "bench"))
import peers  # noqa: E402

NETWORKS = "lite0 mobilenet_v2 mobilenet_v3_small mobilenet_v3_large resnet18 resnet50 efficientnet_b0".split()
ENGINES = {"clr": "clr", "onnxruntime": "ONNX Runtime", "openvino": "OpenVINO, QDQ file", "openvino-nncf": "OpenVINO, NNCF",
           "ncnn": "ncnn", "litert": "LiteRT (XNNPACK)"}
VARIANT = "qdq-u8-channel"
WITH_ADAPTER = "+clr"
ADAPTER_TASK = source.CACHE / "tasks" / "furniture"


class NotMeasured(Exception):
    pass


# Workers: a process for each engine.


class LiteRt:
    def __init__(self, job):
        from ai_edge_litert.interpreter import Interpreter

        self.version = peers.versions("ai-edge-litert")
        self.interpreter = Interpreter(job["model"], num_threads=job["threads"])
        self.interpreter.allocate_tensors()
        # Set once: the copy of the input is not timed.
        channels_last = np.ascontiguousarray(peers.image(job).transpose(0, 2, 3, 1))
        self.interpreter.set_tensor(self.interpreter.get_input_details()[0]["index"], channels_last)

    def run(self):
        self.interpreter.invoke()

    def output(self):
        self.run()
        return self.interpreter.get_tensor(self.interpreter.get_output_details()[0]["index"])


WORKERS = {"onnxruntime": peers.OnnxRuntime, "openvino": peers.OpenVino, "openvino-nncf": peers.OpenVino, "litert": LiteRt}


def worker(engine, job):
    # Libraries print to stdout as well: replies have a separate descriptor.
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    peers.serve(WORKERS[engine](job), replies)


class Worker:
    """A process with a loaded and warmed-up network."""

    def __init__(self, engine, job):
        self.log = tempfile.TemporaryFile("w+")
        self.process = subprocess.Popen(
            [sys.executable, __file__, "worker", engine, json.dumps(job)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=self.log, text=True, env={**os.environ, "OMP_NUM_THREADS": str(job["threads"])})
        self.version = self.reply()["ready"]["version"]

    def reply(self):
        line = self.process.stdout.readline()
        if line:
            return json.loads(line)
        self.log.seek(0)
        lines = [line.strip() for line in self.log if line.strip()]
        raise NotMeasured(lines[-1] if lines else f"the process ended with {self.process.wait()}")

    def ask(self, request):
        try:
            self.process.stdin.write(json.dumps(request) + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass
        return self.reply()

    def turn(self, seconds):
        return self.ask({"run": {"seconds": seconds, "least": 5}})["times"]["best"]

    def output(self, path):
        self.ask({"output": str(path)})
        return np.fromfile(path, np.float32)

    def end(self):
        self.process.stdin.close()
        self.process.wait()


class Clr:
    """`clr bench` for a turn at a time; its rounds take half a second."""

    def __init__(self, program, model, recipe):
        self.command = [program, "bench", "--no-peers", "--json", "--measure", "inference", "--recipes", recipe,
                        "--threads", "1", "--rounds", "1", "--backbone", str(model)]
        self.version = subprocess.run([program, "--version"], capture_output=True, text=True).stdout.strip()
        self.turn(0)

    def turn(self, seconds):
        done = subprocess.run(self.command, capture_output=True, text=True)
        if not done.stdout.startswith("{"):
            raise NotMeasured((done.stderr.strip().splitlines() or ["no reason given"])[0])
        document = json.loads(done.stdout)
        if not document["inference"]:
            reasons = [failure["reason"].splitlines()[0] for failure in document["failures"]]
            raise NotMeasured(reasons[0].removeprefix(f"{self.command[-1]}: ") if reasons else "no reason given")
        return document["inference"][0]["ours"]["best"]

    def end(self):
        pass


# Models of the engines, made from NETWORK.onnx.


def made(path, make):
    """A file that `make` writes under another name, so that half of one is never taken for it."""
    if not path.exists():
        source.say(f"{path.name}")
        part = path.with_name(f"part-{path.name}")
        make(part)
        part.rename(path)
    return path


def calibration(model, count):
    name, side = source.input_of(model)
    return source.images("train", count, side, source.normalisation_of(model))


def plain(name):
    """The name of a network without its adapter."""
    return name.removesuffix(WITH_ADAPTER)


def float_network(name, options):
    """The path of NETWORK.onnx, or of the network that `clr merge` makes from it and an adapter."""
    network = source.float_network(plain(name), options.folder)
    if name == plain(name):
        return network
    if not options.clr:
        raise NotMeasured("no --clr")
    adapter = options.folder / f"{name}.clr"
    command = lambda *arguments: subprocess.run([options.clr, "--quiet", *map(str, arguments)], check=True, stdout=subprocess.DEVNULL)
    made(adapter, lambda path: command("train", "--backbone", network, ADAPTER_TASK, "--recipe", "clr", "--epochs", 1,
                                       "--encoding", "f32", "-o", path))
    return made(options.folder / f"{name}.onnx", lambda path: command("merge", "--backbone", network, "--adapter", adapter, "-o", path))


def qdq(name, options):
    network = float_network(name, options)
    return made(options.folder / f"{name}.{VARIANT}.onnx",
                lambda path: source.quantise(network, path, source.VARIANTS[VARIANT], options.calibration))


def with_norms_folded(name, options, path):
    """NETWORK.onnx with its norms in the convolutions."""
    source.quant_pre_process(str(float_network(name, options)), str(path))
    return path


def nncf_model(name, options):
    def make(path):
        import nncf
        import openvino

        network = float_network(name, options)
        given = calibration(onnx.load(str(network)), options.calibration)
        model = openvino.Core().read_model(str(network))
        model.reshape([1, *given.shape[1:]])
        quantised = nncf.quantize(model, nncf.Dataset([image[None] for image in given]), subset_size=len(given))
        openvino.save_model(quantised, str(path), compress_to_fp16=False)
        # The weights have a file of their own, with the same stem.
        path.with_suffix(".bin").rename(options.folder / f"{name}.nncf.bin")

    return made(options.folder / f"{name}.nncf.xml", make)


def tflite_model(name, options):
    def make(path):
        if not options.tensorflow:
            raise NotMeasured(f"no {name}.int8.tflite, and no --tensorflow to make it")
        with tempfile.TemporaryDirectory() as folder:
            images, folded = pathlib.Path(folder) / "images.npy", pathlib.Path(folder) / "folded.onnx"
            np.save(images, calibration(onnx.load(str(float_network(name, options))), options.calibration))
            with_norms_folded(name, options, folded)
            peers.convert([options.tensorflow, str(HERE / "onnx_to_tflite.py"), str(folded), str(images), str(path.resolve())],
                          folder)

    return made(options.folder / f"{name}.int8.tflite", make)


MODELS = {"onnxruntime": qdq, "openvino": qdq, "openvino-nncf": nncf_model, "litert": tflite_model}


# Measurement.


def start(engine, name, options, job, expected):
    """A worker, its version, and the error of its logits."""
    if engine == "ncnn":
        raise NotMeasured("its pip package has no ncnn2table and no ncnn2int8")
    if engine == "clr":
        if not options.clr:
            raise NotMeasured("no --clr")
        recipe = "linear" if name == plain(name) else "clr"
        return Clr(options.clr, qdq(plain(name), options), recipe), None
    engine_worker = Worker(engine, {**job, "model": str(MODELS[engine](name, options))})
    output = engine_worker.output(pathlib.Path(job["folder"]) / "output.f32")
    error = source.relative(output, expected) if output.shape == expected.shape else float("inf")
    if not error <= options.error:
        engine_worker.end()
        raise NotMeasured(f"its logits are {error:.2f} from the float network's")
    return engine_worker, error


def in_turns(workers, options):
    """Best time of each turn by engine. An engine that fails is left out."""
    times, failed = {engine: [] for engine in workers}, {}
    for round_number in range(options.rounds):
        for place in range(len(workers)):
            engine = list(workers)[(round_number + place) % len(workers)]
            if engine in failed:
                continue
            try:
                times[engine].append(workers[engine].turn(options.seconds))
            except NotMeasured as error:
                failed[engine] = str(error)
    return {engine: rounds for engine, rounds in times.items() if engine not in failed}, failed


def measure(name, options):
    network = float_network(name, options)
    model = onnx.load(str(network))
    side = source.input_of(model)[1]
    image = source.images("test", 1, side, source.normalisation_of(model))
    expected = source.run(model, None, image)[0][0]
    workers, errors, left_out, versions = {}, {}, {}, set()
    with tempfile.TemporaryDirectory() as folder:
        image.tofile(os.path.join(folder, "input.f32"))
        job = {"input": os.path.join(folder, "input.f32"), "size": [side, side], "threads": 1, "folder": folder}
        try:
            for engine in options.engines:
                try:
                    workers[engine], errors[engine] = start(engine, name, options, job, expected)
                    versions.add(workers[engine].version)
                except Exception as error:
                    text = (str(error).strip().splitlines() or [""])[0]
                    left_out[engine] = text if isinstance(error, NotMeasured) else f"{type(error).__name__}: {text}"
            source.say(f"{name}: {', '.join(workers)}")
            times, failed = in_turns(workers, options)
        finally:
            for running in workers.values():
                running.end()
    return {"network": name, "size": [side, side], "versions": sorted(versions), "errors": errors,
            "rounds": times, "left_out": {**left_out, **failed}}


def ratios(row):
    """The fastest peer, and the ratio of each engine to it."""
    rivals = {engine: statistics.median(times) for engine, times in row["rounds"].items() if engine != "clr"}
    if not rivals:
        return None, {}
    best = min(rivals, key=rivals.get)
    paired = lambda times: statistics.median(ours / theirs for ours, theirs in zip(times, row["rounds"][best]))
    return best, {engine: paired(times) for engine, times in row["rounds"].items()}


def processor():
    try:
        return next(line.partition(":")[2].strip() for line in open("/proc/cpuinfo") if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.machine()


def table(rows, engines, options):
    engines = [engine for engine in engines if any(engine in row["rounds"] for row in rows)]
    print(f"{processor()}, {os.cpu_count()} cores, {platform.system()}. One image, one thread, int8. "
          f"Engines: {', '.join(sorted(set(sum((row['versions'] for row in rows), []))))}.\n")
    print(f"Median and best time of {options.rounds} rounds in ms, and the ratio to the fastest peer (bold), paired by round.\n")
    print("| network | pixels | " + " | ".join(ENGINES[engine] for engine in engines) + " |")
    print("|" + "---|" * (2 + len(engines)))
    for row in rows:
        best, relative = ratios(row)
        cells = [row["network"], "×".join(map(str, row["size"]))]
        for engine in engines:
            times = row["rounds"].get(engine)
            if not times:
                cells.append("–")
                continue
            ratio = f"{relative[engine]:.2f}" if relative else "–"
            text = f"{precise(statistics.median(times))} / {precise(min(times))} / {ratio}"
            cells.append(f"**{text}**" if engine == best else text)
        print("| " + " | ".join(cells) + " |")
    ours = [ratios(row)[1].get("clr") for row in rows]
    if any(ours):
        print(f"\nclr: {summary([ratio for ratio in ours if ratio])}")
    print()
    for row in rows:
        errors = ", ".join(f"{ENGINES[engine]} {error:.3f}" for engine, error in row["errors"].items() if error is not None)
        print(f"* {row['network']}: error of the logits, of the float ones' norm: {errors}")
    notes = [(row["network"], engine, reason) for row in rows for engine, reason in row["left_out"].items()]
    for engine, reason in dict.fromkeys((engine, reason) for _, engine, reason in notes):
        networks = [name for name, *note in notes if note == [engine, reason]]
        print(f"* {ENGINES[engine]} not measured ({'all' if len(networks) == len(rows) else ', '.join(networks)}): {reason}")


def precise(seconds):
    return f"{seconds * 1e3:.2f}" if seconds < 0.01 else milliseconds(seconds)


def main():
    if sys.argv[1:2] == ["worker"]:
        return worker(sys.argv[2], json.loads(sys.argv[3]))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path, help="folder of the networks")
    parser.add_argument("--networks", default="", metavar="NAMES", help=f"comma-separated [default: {','.join(NETWORKS)}]")
    parser.add_argument("--engines", default="", metavar="NAMES", help=f"comma-separated [default: {','.join(ENGINES)}]")
    parser.add_argument("--clr", metavar="FILE", help="the program clr")
    parser.add_argument("--tensorflow", metavar="FILE", help="a Python with tensorflow and onnx, to make files for LiteRT")
    parser.add_argument("--rounds", type=int, default=11, metavar="N", help="[default: 11]")
    parser.add_argument("--seconds", type=float, default=0.5, metavar="S", help="length of a turn [default: 0.5]")
    parser.add_argument("--calibration", type=int, default=32, metavar="N", help="calibration images [default: 32]")
    parser.add_argument("--error", type=float, default=0.95, metavar="E", help="largest error of the logits [default: 0.95]")
    parser.add_argument("-o", "--output", type=pathlib.Path, metavar="FILE", help="also write the times as JSON")
    options = parser.parse_args()
    options.folder = options.folder.resolve()
    options.folder.mkdir(parents=True, exist_ok=True)
    names = source.chosen(options.networks, [*source.NETWORKS, *(name + WITH_ADAPTER for name in source.NETWORKS)], "network") or NETWORKS
    options.engines = source.chosen(options.engines, ENGINES, "engine") or list(ENGINES)
    rows = [measure(name, options) for name in names]
    if options.output:
        options.output.write_text(json.dumps(rows, indent=1))
    table(rows, options.engines, options)


if __name__ == "__main__":
    main()
