"""Networks quantised by ONNX Runtime's static quantiser, with the integers of every quantised tensor.

    python tests/tools/quantised_networks.py FOLDER
    python tests/tools/quantised_networks.py FOLDER --networks lite0,resnet18 --variants qdq-u8-channel,qop-u8-channel
    python tests/tools/quantised_networks.py --list

Writes NETWORK.onnx (float), NETWORK.VARIANT.onnx and NETWORK.VARIANT.npz, and prints one JSON line per variant. Existing files
are kept. Lite0 and SqueezeNet are the trained backbones of `clr fetch`. The others have seeded random weights, and norm
statistics measured on real images, so that the size of their activations is that of a trained network. Images come from tasks
of `clr fetch`: the train split for calibration, the test split for the reference.

Arrays of an .npz, each with the images along axis 0:

    images        f32, preprocessed
    logits        f32, of the quantised file, from the integers below
    float_logits  f32, of NETWORK.onnx
    q0000 …       u8 or s8: every quantised tensor but the weights, in the order of the file's nodes
    about         u8, UTF-8 text: a JSON document with the list `tensors` (key, name, operator, scale, zero_point), the options,
                  and how far other executions of ONNX Runtime are from this one

The values are those of ONNX Runtime's integer kernels: the graph that its optimiser makes is saved before its layout changes,
and run with every quantised tensor as an output. (Outputs added to the file itself would keep the optimiser from fusing what
reads s8.) Differences accumulate over a network, most where a convolution's factor s_in·s_w / s_out is large. To compare an
engine within one quantum, feed each layer with the integers in the file. On an x86 processor without VNNI, ONNX Runtime's
u8 × s8 kernels saturate: make the files on one that has it (`about` has the processor's flags).

Needs: numpy, onnx, onnxruntime, pillow; for random networks also torch, torchvision and onnxscript.
"""

import argparse
import collections
import dataclasses
import json
import os
import pathlib
import sys
import tempfile

import numpy as np
import onnx
import onnxruntime as ort
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process
from PIL import Image

from bench_networks import create

CACHE = pathlib.Path(os.environ.get("CLR_CACHE", "~/.cache/clr")).expanduser()
# Photographs, where tasks have them.
TASKS = "stamps climate dermoscopy solar-cells furniture".split()
IMAGENET = {"mean": [123.675, 116.28, 103.53], "std": [58.395, 57.12, 57.375], "channel_order": "rgb"}


@dataclasses.dataclass
class Network:
    source: str
    opset: int = 17
    exporter: str = "script"
    variants: tuple = ()


@dataclasses.dataclass
class Variant:
    about: str
    format: str = "qdq"
    activations: str = "u8"
    per_channel: bool = True
    prepared: bool = True
    operators: tuple = ()
    extra: dict = dataclasses.field(default_factory=dict)


VARIANTS = {
    "qdq-u8-channel": Variant("the usual choice: weights per channel"),
    "qdq-u8-tensor": Variant("weights per tensor, the quantiser's default", per_channel=False),
    "qdq-s8-channel": Variant("s8 activations", activations="s8"),
    "qdq-s8-tensor": Variant("s8 activations, weights per tensor: the quantiser's defaults", activations="s8",
                             per_channel=False),
    "qdq-s8-symmetric": Variant("s8 activations with zero point 0, as for TensorRT", activations="s8",
                                extra={"ActivationSymmetric": True}),
    "qdq-u8-raw": Variant("without quant_pre_process: no norm folded, no shapes", prepared=False),
    "qdq-u8-weight-pairs": Variant("float weights with Q and DQ nodes", extra={"AddQDQPairToWeight": True}),
    "qdq-u8-float-bias": Variant("biases not quantised", extra={"QuantizeBias": False}),
    "qdq-u8-dedicated": Variant("a Q/DQ pair for each reader", extra={"DedicatedQDQPair": True}),
    "qdq-u8-conv-only": Variant("only convolutions", operators=("Conv",)),
    "qop-u8-channel": Variant("QLinearConv and its kin", format="qop"),
    "qop-u8-tensor": Variant("QLinearConv and its kin, weights per tensor", format="qop", per_channel=False),
    "qop-s8-channel": Variant("QLinearConv and its kin, s8 activations", format="qop", activations="s8"),
}
EVERYWHERE = ("qdq-u8-channel", "qdq-s8-tensor")
ALL = tuple(VARIANTS)

NETWORKS = {
    "lite0": Network("backbones/lite0.onnx", variants=ALL),
    "squeezenet": Network("backbones/squeezenet.onnx", variants=("qdq-u8-tensor", "qdq-u8-dedicated", "qop-u8-channel")),
    "resnet18": Network("torchvision/resnet18", variants=ALL),
    "resnet50": Network("torchvision/resnet50", opset=13, variants=("qop-u8-tensor",)),
    "mobilenet_v2": Network("torchvision/mobilenet_v2", opset=13,
                            variants=("qdq-u8-raw", "qdq-s8-symmetric", "qop-s8-channel")),
    "mobilenet_v3_small": Network("torchvision/mobilenet_v3_small", variants=("qdq-u8-raw", "qop-u8-channel")),
    "mobilenet_v3_large": Network("torchvision/mobilenet_v3_large"),
    "efficientnet_b0": Network("torchvision/efficientnet_b0",
                               variants=("qdq-s8-channel", "qdq-u8-conv-only", "qop-u8-channel")),
    "shufflenet_v2_x1_0": Network("torchvision/shufflenet_v2_x1_0", variants=("qdq-u8-tensor", "qop-u8-channel")),
    "densenet121": Network("torchvision/densenet121", opset=13, variants=("qdq-u8-raw",)),
    "regnet_y_400mf": Network("torchvision/regnet_y_400mf", opset=18, exporter="dynamo",
                              variants=("qdq-u8-raw", "qdq-u8-weight-pairs")),
    "googlenet": Network("torchvision/googlenet", variants=("qdq-u8-float-bias", "qop-u8-tensor")),
    "mnasnet1_0": Network("torchvision/mnasnet1_0", opset=20, variants=("qdq-s8-symmetric",)),
    "vgg11_bn": Network("torchvision/vgg11_bn", variants=("qdq-u8-tensor",)),
    "resnet18_dynamo": Network("torchvision/resnet18", opset=18, exporter="dynamo", variants=("qdq-u8-raw", "qop-u8-channel")),
}


def say(text):
    print(text, file=sys.stderr, flush=True)


# Images.


def files(split, count):
    """`count` files of a split, taken from the tasks and their classes in turn."""
    folders = [sorted(path for path in (CACHE / "tasks" / task / split).glob("*") if path.is_dir()) for task in TASKS]
    lists = [sorted(folder.iterdir()) for task in folders for folder in task]
    if not lists:
        raise SystemExit(f"no images in {CACHE / 'tasks'}\nhint: clr fetch {' '.join(TASKS)}")
    order = np.random.default_rng(0).permutation(len(lists))
    turns = -(-count // len(lists))
    return [lists[index][turn * len(lists[index]) // turns] for turn in range(turns) for index in order][:count]


def preprocess(path, side, normalisation):
    image = Image.open(path).convert("RGB")
    scale = side / min(image.size)
    image = image.resize([max(side, round(length * scale)) for length in image.size], Image.Resampling.BICUBIC)
    left, top = ((length - side) // 2 for length in image.size)
    pixels = np.asarray(image.crop((left, top, left + side, top + side)), np.float32)
    if normalisation["channel_order"] == "bgr":
        pixels = pixels[:, :, ::-1]
    pixels = (pixels - np.float32(normalisation["mean"])) / np.float32(normalisation["std"])
    return np.ascontiguousarray(pixels.transpose(2, 0, 1))


def images(split, count, side, normalisation=IMAGENET):
    return np.stack([preprocess(path, side, normalisation) for path in files(split, count)])


def normalisation_of(model):
    """What a backbone of `clr import` says of its images, else ImageNet's."""
    entries = [json.loads(entry.value) for entry in model.metadata_props if entry.key == "clr.preprocessing"]
    return entries[0] if entries else IMAGENET


# Float networks.


def measure_norms(model, batches):
    """Norms as after training: scales and shifts that differ by channel, and the statistics of real images."""
    import torch

    norms = [module for module in model.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    for norm in norms:
        torch.nn.init.uniform_(norm.weight, 0.5, 1.5)
        torch.nn.init.normal_(norm.bias, std=0.2)
        norm.reset_running_stats()
        norm.momentum = None
        norm.train()
    with torch.no_grad():
        for batch in batches:
            model(batch)
    for norm in norms:
        norm.eval()


def export(network, path, side=224):
    import torch

    torch.manual_seed(0)
    torch.set_num_threads(1)
    model = create(network.source).eval()
    measure_norms(model, torch.from_numpy(images("train", 32, side)).split(16))
    example = (torch.randn(1, 3, side, side),)
    names = {"input_names": ["input"], "output_names": ["output"]}
    if network.exporter == "dynamo":
        torch.onnx.export(model, example, path, opset_version=network.opset, dynamo=True, external_data=False, verbose=False,
                          **names)
    else:
        torch.onnx.export(model, example, path, opset_version=network.opset, dynamo=False,
                          dynamic_axes={"input": {0: "batch"}, "output": {0: "batch"}}, **names)


def float_network(name, folder):
    """The path of NETWORK.onnx, made if it isn't there."""
    path, network = folder / f"{name}.onnx", NETWORKS[name]
    if path.exists():
        return path
    part = path.with_suffix(".part")
    if network.source.startswith("backbones/"):
        source = CACHE / network.source
        if not source.exists():
            raise FileNotFoundError(f"no {source}; hint: clr fetch {name}")
        part.write_bytes(source.read_bytes())
    else:
        export(network, str(part))
    part.rename(path)
    return path


# Quantised networks.


class Calibration(CalibrationDataReader):
    def __init__(self, name, pictures):
        self.feeds = iter([{name: picture[None]} for picture in pictures])

    def get_next(self):
        return next(self.feeds, None)


def input_of(model):
    """Name and side of the image that a network reads."""
    constants = {initialiser.name for initialiser in model.graph.initializer}
    value = next(value for value in model.graph.input if value.name not in constants)
    return value.name, value.type.tensor_type.shape.dim[-1].dim_value


def quantise(source, target, variant, calibration):
    model = onnx.load(str(source))
    name, side = input_of(model)
    types = {"u8": QuantType.QUInt8, "s8": QuantType.QInt8}
    with tempfile.TemporaryDirectory() as folder:
        prepared = pathlib.Path(folder) / "prepared.onnx"
        if variant.prepared:
            quant_pre_process(str(source), str(prepared))
        else:
            onnx.save(model, str(prepared))
        part = pathlib.Path(folder) / "part.onnx"
        quantize_static(str(prepared), str(part), Calibration(name, images("train", calibration, side, normalisation_of(model))),
                        quant_format={"qdq": QuantFormat.QDQ, "qop": QuantFormat.QOperator}[variant.format],
                        op_types_to_quantize=list(variant.operators) or None, per_channel=variant.per_channel,
                        reduce_range=False, activation_type=types[variant.activations], weight_type=QuantType.QInt8,
                        extra_options=variant.extra)
        target.write_bytes(part.read_bytes())


# The integers of a quantised network.

# Where the scale of an operator's result is among its inputs; the zero point follows it.
SCALE = {"QuantizeLinear": 1, "QLinearConv": 6, "QLinearMatMul": 6, "QLinearAdd": 6, "QLinearMul": 6, "QLinearConcat": 0,
         "QLinearGlobalAveragePool": 3, "QLinearAveragePool": 3, "QLinearSigmoid": 3, "QLinearLeakyRelu": 3, "QLinearSoftmax": 3,
         "QLinearReduceMean": 3, "QGemm": 7}
# Operators that read integers and pass them on with the scale of their input.
PASSING = "MaxPool Reshape Flatten Transpose Squeeze Unsqueeze Slice Split Gather Identity Resize Pad Relu Clip".split()


def constants(model):
    values = {initialiser.name: onnx.numpy_helper.to_array(initialiser) for initialiser in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "Constant" and node.attribute[0].name == "value":
            values[node.output[0]] = onnx.numpy_helper.to_array(node.attribute[0].t)
    return values


def quantised_tensors(model):
    """Operator, scale and zero point of every quantised tensor but the weights, by name."""
    known, found = constants(model), {}
    for node in model.graph.node:
        if node.op_type == "QuantizeLinear" and node.input[0] in known:
            continue
        if node.op_type in SCALE:
            place = SCALE[node.op_type]
            if len(node.input) <= place or not node.input[place]:
                continue
            point = node.input[place + 1] if len(node.input) > place + 1 else ""
            scale, zero_point = known[node.input[place]], known[point] if point else np.uint8(0)
            found[node.output[0]] = {"operator": node.op_type, "node": node.name, "of": node.input[0],
                                     "scale": float(scale.item()), "zero_point": int(zero_point.item())}
        elif node.op_type in PASSING and node.input[0] in found:
            for output in node.output:
                found[output] = {**found[node.input[0]], "operator": node.op_type, "node": node.name, "of": node.input[0]}
    return found


def session(model, level, saved=None):
    """A session on one thread whose QDQ groups stay s8 where the file is s8, instead of becoming u8 or float."""
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    options.graph_optimization_level = getattr(ort.GraphOptimizationLevel, f"ORT_{level}")
    if saved:
        options.add_session_config_entry("session.qdqisint8allowed", "1")
        options.optimized_model_filepath = str(saved)
    return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def run(model, names, pictures, level="ENABLE_ALL"):
    runner = session(model, level)
    rows = [runner.run(names, {runner.get_inputs()[0].name: picture[None]}) for picture in pictures]
    return [np.concatenate(column) for column in zip(*rows)]


def fused(model):
    """The graph that ONNX Runtime's optimiser makes, before it changes layouts."""
    with tempfile.TemporaryDirectory() as folder:
        saved = pathlib.Path(folder) / "fused.onnx"
        session(model, "ENABLE_EXTENDED", saved)
        return onnx.load(str(saved))


def with_outputs(model, names):
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    present = {output.name for output in model.graph.output}
    copy.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in names if name not in present)
    return copy


def survivors(tensors, graph):
    """For each tensor the one with its integers in the fused graph: itself, or a twin that the optimiser kept for both."""
    produced = {output for node in graph.node for output in node.output}
    same = lambda tensor: (tensor["of"], tensor["scale"], tensor["zero_point"])
    kept = {same(tensor): name for name, tensor in tensors.items() if name in produced}
    return {name: name if name in produced else kept.get(same(tensor)) for name, tensor in tensors.items()}


def distance(ours, theirs):
    """Largest difference of two lists of integer arrays in quanta, and the share of values that differ."""
    apart = [np.abs(a.astype(np.int16) - b.astype(np.int16)) for a, b in zip(ours, theirs)]
    values = sum(difference.size for difference in apart)
    return {"largest": int(max(difference.max() for difference in apart)),
            "share": float(sum(np.count_nonzero(difference) for difference in apart) / values)}


def operators(model):
    return dict(collections.Counter(node.op_type for node in model.graph.node).most_common())


def relative(values, expected):
    return float(np.linalg.norm(values - expected) / max(np.linalg.norm(expected), 1e-12))


def vector_extensions():
    try:
        flags = next(line for line in open("/proc/cpuinfo") if line.startswith(("flags", "Features")))
    except (OSError, StopIteration):
        return []
    return [flag for flag in flags.split() if "vnni" in flag or flag in ("avx2", "avx512f", "asimddp", "i8mm")]


def record(source, path, variant, count):
    """Writes the .npz of a quantised file and returns what the report says of it."""
    model = onnx.load(str(path))
    pictures = images("test", count, input_of(model)[1], normalisation_of(onnx.load(str(source))))
    graph, output = fused(model), model.graph.output[0].name
    tensors = quantised_tensors(model)
    kept = survivors(tensors, graph.graph)
    left_out = [name for name, survivor in kept.items() if survivor is None]
    names = [name for name in tensors if kept[name]]
    fetched = list(dict.fromkeys(kept[name] for name in names))
    logits, *values = run(with_outputs(graph, fetched), [output, *fetched], pictures, "DISABLE_ALL")
    values = dict(zip(fetched, values))
    unfused = run(with_outputs(model, names), names, pictures, "DISABLE_ALL")
    default, float_logits = run(model, [output], pictures)[0], run(onnx.load(str(source)), None, pictures)[0]
    arrays, listed = {}, []
    for index, name in enumerate(names):
        array = values[kept[name]]
        assert array.dtype in (np.uint8, np.int8), f"{name} is {array.dtype}"
        key = f"q{index:04}"
        arrays[key] = array
        kind = {"uint8": "u8", "int8": "s8"}[str(array.dtype)]
        listed.append({"key": key, "name": name, "type": kind, **tensors[name]})
    about = {"network": source.stem, "options": dataclasses.asdict(variant),
             "opset": {entry.domain or "ai.onnx": entry.version for entry in model.opset_import},
             "onnxruntime": ort.__version__, "processor": vector_extensions(), "input": input_of(model)[0], "output": output,
             "operators": operators(model), "operators_fused": operators(graph),
             # Of a session without special settings.
             "default_session": {"same_logits": bool(np.array_equal(logits, default)), "error": relative(default, logits)},
             # Of a session without optimisation, which computes in float between the Q/DQ pairs.
             "unfused": distance([arrays[entry["key"]] for entry in listed], unfused), "tensors": listed, "left_out": left_out}
    document = np.frombuffer(json.dumps(about).encode(), np.uint8)
    part = path.with_suffix(".part.npz")
    np.savez_compressed(part, images=pictures, logits=logits, float_logits=float_logits, about=document, **arrays)
    part.rename(path.with_suffix(".npz"))
    return {"bytes": path.stat().st_size, "npz_bytes": path.with_suffix(".npz").stat().st_size, "tensors": len(names),
            "left_out": len(left_out), "logits_error": round(relative(logits, float_logits), 4),
            "same_decisions": f"{int((logits.argmax(1) == float_logits.argmax(1)).sum())} of {count}",
            "default_session": about["default_session"], "unfused": about["unfused"]}


def make(name, variant, folder, options):
    path = folder / f"{name}.{variant}.onnx"
    if path.exists() and path.with_suffix(".npz").exists():
        say(f"{path.name}: exists")
        return True
    say(f"{path.name}")
    line = {"network": name, "variant": variant}
    try:
        source = float_network(name, folder)
        if not path.exists():
            quantise(source, path, VARIANTS[variant], options.calibration)
        line.update(record(source, path, VARIANTS[variant], options.images))
    except Exception as error:
        line["failed"] = f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0]}"
    print(json.dumps(line), flush=True)
    return "failed" not in line


def listing():
    print("networks:")
    for name, network in NETWORKS.items():
        print(f"  {name}: {network.source}, opset {network.opset}, {len(set(EVERYWHERE + network.variants))} variants")
    print("variants:")
    for name, variant in VARIANTS.items():
        print(f"  {name}: {variant.about}")


def chosen(text, known, kind):
    names = [name for name in text.split(",") if name]
    unknown = [name for name in names if name not in known]
    if unknown:
        raise SystemExit(f"no {kind} '{unknown[0]}'\nhint: --list")
    return names


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=pathlib.Path, help="folder to write")
    parser.add_argument("--networks", default="", metavar="NAMES", help="comma-separated [default: all]")
    parser.add_argument("--variants", default="", metavar="NAMES", help="comma-separated [default: those of each network]")
    parser.add_argument("--images", type=int, default=2, metavar="N", help="images in an .npz [default: 2]")
    parser.add_argument("--calibration", type=int, default=32, metavar="N", help="calibration images [default: 32]")
    parser.add_argument("--list", action="store_true", help="print networks and variants")
    options = parser.parse_args()
    if options.list:
        return listing()
    if not options.folder:
        parser.error("no FOLDER")
    options.folder.mkdir(parents=True, exist_ok=True)
    networks = chosen(options.networks, NETWORKS, "network") or list(NETWORKS)
    variants = chosen(options.variants, VARIANTS, "variant")
    jobs = [(name, variant) for name in networks for variant in variants or dict.fromkeys(EVERYWHERE + NETWORKS[name].variants)]
    failed = sum(not make(name, variant, options.folder, options) for name, variant in jobs)
    say(f"{len(jobs) - failed} of {len(jobs)}")
    return failed > 0


if __name__ == "__main__":
    sys.exit(main())
