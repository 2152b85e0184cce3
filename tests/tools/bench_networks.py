"""Measures many networks with `clr bench` and writes the tables of a results page.

    bench_networks.py export FOLDER            the networks below as ONNX files, with seeded random weights
    bench_networks.py table BENCH.json…        Markdown tables of documents that `clr bench -o` wrote, to stdout

`just bench-networks` does both, with the bench between them. Needs the environment of host-tools/bench/setup.sh, and `onnx` and
`onnxscript` for the export. Run it on an idle machine.
"""

import json
import os
import statistics
import sys

# Selected by downloads of their weights and by kind: one of each widely used family.
INFERENCE = """
    torchvision/resnet18 torchvision/resnet34 torchvision/resnet50 torchvision/resnext50_32x4d
    torchvision/mobilenet_v2 torchvision/mobilenet_v3_small torchvision/mobilenet_v3_large torchvision/mnasnet1_0
    torchvision/efficientnet_b0 torchvision/efficientnet_v2_s torchvision/densenet121 torchvision/googlenet
    torchvision/inception_v3 torchvision/vgg11_bn torchvision/squeezenet1_1 torchvision/shufflenet_v2_x1_0
    torchvision/regnet_y_400mf torchvision/convnext_tiny timm/tf_efficientnet_lite0 timm/mobilenetv4_conv_small
""".split()
TRAINING = """
    torchvision/resnet18 torchvision/resnet50 torchvision/mobilenet_v2 torchvision/mobilenet_v3_large
    torchvision/efficientnet_b0 torchvision/squeezenet1_1 torchvision/densenet121 torchvision/regnet_y_400mf
    torchvision/convnext_tiny timm/tf_efficientnet_lite0
""".split()


def create(name):
    library, _, model = name.partition("/")
    if library == "timm":
        import timm

        return timm.create_model(model, pretrained=False)
    import torchvision

    more = {"aux_logits": False, "init_weights": True} if model in ("googlenet", "inception_v3") else {}
    return torchvision.models.get_model(model, weights=None, **more)


def export(folder):
    import torch

    os.makedirs(folder, exist_ok=True)
    for name in dict.fromkeys(INFERENCE + TRAINING):
        path = os.path.join(folder, name.partition("/")[2] + ".onnx")
        if os.path.exists(path):
            continue
        torch.manual_seed(0)
        model = create(name)
        # Norm statistics as after training: those of a new network are the identity.
        for norm in (module for module in model.modules() if isinstance(module, torch.nn.BatchNorm2d)):
            if norm.running_mean is not None:
                torch.nn.init.normal_(norm.running_mean, std=0.05)
                torch.nn.init.uniform_(norm.running_var, 0.75, 1.25)
        side = 299 if name.endswith("inception_v3") else getattr(model, "default_cfg", {}).get("input_size", [224])[-1]
        torch.onnx.export(model.eval(), (torch.randn(1, 3, side, side),), path + ".part", opset_version=17, dynamo=False,
                          input_names=["input"], output_names=["output"],
                          dynamic_axes={"input": {0: "batch"}, "output": {0: "batch"}})
        os.rename(path + ".part", path)
        print(path, file=sys.stderr)


def milliseconds(seconds):
    return f"{seconds * 1e3:.1f}" if seconds < 0.1 else f"{seconds * 1e3:.0f}"


def summary(ratios):
    over = sum(ratio > 1.1 for ratio in ratios)
    return (f"Median ratio {statistics.median(ratios):.2f}, worst {max(ratios):.2f}, best {min(ratios):.2f}; "
            f"{over} of {len(ratios)} above 1.1.")


def table(paths):
    documents = [json.load(open(path)) for path in paths]
    machine = documents[0]["machine"]
    print(f"{machine.get('cpu') or machine['architecture']}, {machine['cores']} cores, {machine['os']}. "
          f"Peers: {', '.join(sorted(set(sum((document['peers'] for document in documents), []))))}.\n")
    inference = sorted((row for document in documents for row in document["inference"]),
                       key=lambda row: (row["threads"], row["recipe"], row["ratio"] or 0))
    engines = ["onnxruntime", "openvino", "ncnn", "mnn"]
    if inference:
        print("One image, best time of all rounds in ms; ratio: `clr` over the fastest peer.\n")
        print("| network | pixels | threads | recipe | clr | ONNX Runtime | OpenVINO | ncnn | MNN | ratio |")
        print("|---|---|---|---|---|---|---|---|---|---|")
        for row in inference:
            times = {peer["peer"]: milliseconds(peer["times"]["best"]) for peer in row["peers"]}
            height, width = row["size"]
            ratio = "–" if row["ratio"] is None else f"**{row['ratio']:.2f}**" if row["ratio"] <= 1 else f"{row['ratio']:.2f}"
            cells = [row["model"], f"{height}×{width}", row["threads"], row["recipe"], milliseconds(row["ours"]["best"])]
            print("| " + " | ".join(map(str, cells + [times.get(name, "–") for name in engines] + [ratio])) + " |")
        ratios = [row["ratio"] for row in inference if row["ratio"] is not None]
        if ratios:
            largest = max(peer["largest_difference"] for row in inference for peer in row["peers"])
            print(f"\n{summary(ratios)} Largest difference of an output: {largest:.1e} of its largest value.\n")
    steps = sorted((row for document in documents for row in document["training_step"]),
                   key=lambda row: (-row["size"], row["time_ratio"] or 0))
    if steps:
        print("Training step of recipe `clr` (forward, backward, update), best time of all rounds; memory: largest resident size.\n")
        print("| network | pixels | batch | threads | clr | PyTorch | time | clr | PyTorch | memory |")
        print("|---|---|---|---|---|---|---|---|---|---|")
        for row in steps:
            ours, theirs = row["ours"], row["pytorch"]
            megabytes = lambda side: f"{side['peak_bytes'] / 1e6:.0f} MB"
            ratio = lambda value: "–" if value is None else f"{value:.2f}"
            cells = [row["model"], row["size"], row["batch"], row["threads"], milliseconds(ours["best"]) + " ms",
                     milliseconds(theirs["best"]) + " ms" if theirs else "–", ratio(row["time_ratio"]), megabytes(ours),
                     megabytes(theirs) if theirs else "–", ratio(row["memory_ratio"])]
            print("| " + " | ".join(map(str, cells)) + " |")
        times = [row["time_ratio"] for row in steps if row["time_ratio"] is not None]
        memory = [row["memory_ratio"] for row in steps if row["memory_ratio"] is not None]
        if times:
            print(f"\nTime: {summary(times)} Memory: {summary(memory)}\n")
    notes = [f"{row['model']}: no {left['peer']}: {left['reason']}" for row in inference for left in row["left_out"]]
    notes += [f"{row['model']}, {row['size']} px: no PyTorch: {row['left_out']}" for row in steps if row["left_out"]]
    notes += [f"{row['model']}: clr trains {row['ours']['parameters']} values, PyTorch {row['pytorch']['parameters']}"
              for row in steps if row["pytorch"] and row["pytorch"]["parameters"] != row["ours"]["parameters"]]
    notes += [f"{failure['model']}: no {failure['measurement']}: {failure['reason'].splitlines()[0]}"
              for document in documents for failure in document["failures"]]
    for note in dict.fromkeys(notes):
        print(f"* {note}")


def main():
    match sys.argv[1:]:
        case ["export", folder]:
            export(folder)
        case ["files", kind, folder]:
            for name in {"inference": INFERENCE, "training": TRAINING}[kind]:
                print(os.path.join(folder, name.partition("/")[2] + ".onnx"))
        case ["names", "training"]:
            print(",".join(TRAINING))
        case ["table", first, *others]:
            table([first, *others])
        case _:
            raise SystemExit(__doc__)


if __name__ == "__main__":
    main()
