"""JSON lines of `recipe_study` as a table: mean and standard deviation over seeds, choices of `auto`, cost of quantisation.

    python tests/tools/study_table.py study.jsonl...
"""

import json
import statistics
import sys

rows = {}
for path in sys.argv[1:]:
    with open(path) as file:
        for line in file:
            row = json.loads(line)
            rows[row["data"], row["seed"], row["recipe"]] = row

tasks = list(dict.fromkeys(task for task, _, _ in rows))
recipes = list(dict.fromkeys(recipe for _, _, recipe in rows))
seeds = sorted({seed for _, seed, _ in rows})


def spread(values):
    values = [100 * value for value in values]
    deviation = statistics.stdev(values) if len(values) > 1 else float("nan")
    return f"{statistics.mean(values):.1f} ± {deviation:.1f}"


def line(name, counts, columns):
    print("| " + " | ".join([name, counts, *columns]) + " |")


line("task", "train / test", [*recipes, "`auto`", "`auto` chose"])
line("---", "---", ["---"] * (len(recipes) + 2))
means = {column: {seed: [] for seed in seeds} for column in [*recipes, "auto"]}
best, losses = [], []
for task in tasks:
    of = {recipe: [rows[task, seed, recipe]["test"] for seed in seeds if (task, seed, recipe) in rows] for recipe in recipes}
    chosen = [row for (name, _, _), row in rows.items() if name == task and row["chosen"]]
    auto = [row["test"] for row in sorted(chosen, key=lambda row: row["seed"])]
    first = next(row for (name, _, _), row in rows.items() if name == task)
    names = ", ".join(f"{n}× {r}" for r in recipes if (n := sum(row["recipe"] == r for row in chosen)))
    columns = [spread(of[recipe]) for recipe in recipes] + [spread(auto), names]
    line(task, f"{first['train_pictures']:,} / {first['test_pictures']:,}", columns)
    for seed in seeds:
        for recipe in recipes:
            means[recipe][seed].append(rows[task, seed, recipe]["test"])
        means["auto"][seed].append(next(row["test"] for row in chosen if row["seed"] == seed))
    best.append(max(statistics.mean(of[recipe]) for recipe in recipes) - statistics.mean(auto))
    losses += [row["test"] - row["test_int8"] for (name, _, _), row in rows.items() if name == task]
average = [spread([statistics.mean(values) for values in means[column].values()]) for column in [*recipes, "auto"]]
line(f"**mean of {len(tasks)}**", "", [*(f"**{value}**" for value in average), ""])
print()
for recipe in recipes:
    for other in recipes[: recipes.index(recipe)]:
        by_seed = [100 * (statistics.mean(means[recipe][s]) - statistics.mean(means[other][s])) for s in seeds]
        pairs = [
            100 * (rows[task, seed, recipe]["test"] - rows[task, seed, other]["test"]) for task in tasks for seed in seeds
        ]
        error = statistics.stdev(pairs) / len(pairs) ** 0.5
        print(f"{recipe} − {other}: {statistics.mean(by_seed):+.2f} points, by seed {[round(x, 2) for x in by_seed]}, "
              f"over tasks and seeds ± {error:.2f} (standard error)")
print(f"auto below the best recipe of each task: {100 * statistics.mean(best):.2f} points on average")
print(f"int8 below f32: {100 * statistics.mean(losses):.3f} points on average, at most {100 * max(losses):.2f}")
