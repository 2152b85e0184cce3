"""Tables of `clr continual report` in Markdown.

    python tests/tools/continual_table.py results/report.json         # one run
    python tests/tools/continual_table.py both/backbones.json         # several backbones
"""

import json
import sys

DASH = "–"


def percent(spread):
    if spread is None:
        return DASH
    mean, deviation = 100 * spread["mean"], spread["deviation"]
    return f"{mean:.1f}" if deviation is None else f"{mean:.1f} ± {100 * deviation:.1f}"


def table(head, rows):
    for cells in [head, ["---"] * len(head), *rows]:
        print("| " + " | ".join(cells) + " |")
    print()


def difference(method):
    against = method["against_clr"]
    return DASH if against is None else f"{100 * against['mean']:+.1f}" + (" (level)" if against["level"] else "")


def settings(values):
    return ", ".join(f"{name} {value:g}" for name, value in values.items())


def run(report):
    head = ["method", "seeds", "average accuracy", "against `clr`", "forgetting", "intransigence", "kB per task", "of backbone"]
    head += ["kB for training", "multiplications"]
    table(
        head,
        [
            [
                f"`{method['method']}`",
                str(len(method["seeds"])),
                percent(method["average_accuracy"]),
                difference(method),
                percent(method["forgetting"]),
                percent(method["intransigence"]),
                f"{method['bytes_per_task'] / 1e3:,.1f}",
                f"{100 * method['share_of_backbone']:.2f} %",
                f"{method['training_bytes'] / 1e3:,.0f}",
                f"{method['relative_multiplications']:.2f}",
            ]
            for method in report["methods"]
        ],
    )
    count = len(report["tasks"])
    table(
        ["first task after", *(str(task + 1) for task in range(count))],
        [[f"`{method['method']}`", *map(percent, method["first_task"])] for method in report["methods"]],
    )
    table(
        ["after the last task", *report["tasks"]],
        [[f"`{method['method']}`", *map(percent, method["final_accuracies"])] for method in report["methods"]],
    )
    if report["tuning"]:
        chosen = {method["method"]: method["settings"] for method in report["methods"]}
        rows = []
        for trial in report["tuning"]["trials"]:
            accuracy = "diverged" if trial["accuracy"] is None else f"{trial['accuracy'] / 1e4:.1f}"
            best = "yes" if chosen.get(trial["method"]) == trial["settings"] else ""
            rows.append([f"`{trial['method']}`", settings(trial["settings"]), accuracy, best])
        table(["method", "settings", "validation accuracy", "chosen"], sorted(rows))


def backbones(report):
    rows = []
    for method in report["methods"]:
        cells = zip(method["average_accuracy"], method["seeds"])
        cells = [DASH if not seeds else percent(spread) + (" (1 seed)" if seeds == 1 else "") for spread, seeds in cells]
        rows.append([f"`{method['method']}`", *cells])
    table(["average accuracy", *report["backbones"]], rows)


for path in sys.argv[1:]:
    with open(path) as file:
        document = json.load(file)
    backbones(document) if "backbones" in document else run(document)
