"""Lines of `compact_study` as a table: bytes and accuracy of each recipe, and differences from one of them.

    python tests/tools/compact_table.py study.tsv... [--against bn]

Reads only options `{}`. Accuracies are those of the file, mean ± standard deviation over seeds. Differences are of pairs with the same
task and seed: their mean, and its standard error over the pairs.
"""

import argparse
import statistics

parser = argparse.ArgumentParser()
parser.add_argument("files", nargs="+")
parser.add_argument("--against", default="bn")
arguments = parser.parse_args()

rows = {}
for path in arguments.files:
    with open(path) as file:
        for line in file:
            task, seed, recipe, options, size, _, full, rounded, *_ = line.rstrip("\n").split("\t")
            if options == "{}":
                rows[task, recipe, int(seed)] = int(size), float(full), float(rounded)

tasks = list(dict.fromkeys(task for task, _, _ in rows))
recipes = list(dict.fromkeys(recipe for _, recipe, _ in rows))


def spread(values):
    deviation = f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.1f}{deviation}" if values else "–"


def of(task, recipe):
    return [row for (t, r, _), row in rows.items() if (t, r) == (task, recipe)]


def differences(recipe, some):
    pairs = [(rows[t, recipe, s][2], rows.get((t, arguments.against, s))) for t, r, s in rows if r == recipe and t in some]
    return [accuracy - other[2] for accuracy, other in pairs if other]


print("| task | seeds | " + " | ".join(f"`{recipe}`: bytes | accuracy" for recipe in recipes) + " |")
print("|---|---|" + "---|---|" * len(recipes))
for task in tasks:
    cells = [task, str(max(len(of(task, recipe)) for recipe in recipes))]
    for recipe in recipes:
        found = of(task, recipe)
        cells += [f"{statistics.mean(size for size, _, _ in found):,.0f}" if found else "–", spread([row[2] for row in found])]
    print("| " + " | ".join(cells) + " |")
print()
for recipe in recipes:
    if recipe == arguments.against:
        continue
    by_task = {task: differences(recipe, [task]) for task in tasks}
    pairs = [difference for found in by_task.values() for difference in found]
    if len(pairs) > 1:
        error = statistics.stdev(pairs) / len(pairs) ** 0.5
        each = ", ".join(f"{task} {statistics.mean(found):+.1f}" for task, found in by_task.items() if found)
        print(f"{recipe} − {arguments.against}: {statistics.mean(pairs):+.2f} ± {error:.2f} points over {len(pairs)} pairs ({each})")
