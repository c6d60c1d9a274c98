"""Fit the table that turns a total score into a probability, and propose thresholds.

    python -m training.calibrate --data DIR [--embedder NAME] [--output FILE]

DIR holds ``relevance/memories.jsonl``: whole memories with labelled prompts. On the
``train`` memories a logistic curve is fitted by Newton's method to (total score,
whether the statement bears on the prompt), over every pair of a prompt and a topical
statement of the same memory. Thresholds are those that give the best F-measure there,
by strength: F2 for ``must`` (leans to recall), F1 for ``should``, F0.5 for ``prefer``
(leans to precision). The ``dev`` memories are only reported on. Nothing is random.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from holdfast.memory.models import STRENGTHS
from holdfast.retrieval import scoring
from holdfast.retrieval.calibration import SHIPPED
from holdfast.retrieval.embedder import Embedder, open_embedder, quantise

BETAS = {"must": 2.0, "should": 1.0, "prefer": 0.5}
KNOTS = range(-200_000, 1_200_001, 25_000)


@dataclass(frozen=True)
class Pairs:
    """n pairs of a prompt and a statement of the same memory."""

    total: NDArray[np.int64]
    """(n,), in millionths."""
    bears: NDArray[np.bool_]
    strength: NDArray[np.str_]


def read_memories(path: Path, split: str) -> list[dict[str, Any]]:
    """Read the memories of one split."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return [memory for memory in map(json.loads, lines) if memory["split"] == split]


def score_pairs(memories: Sequence[dict[str, Any]], embedder: Embedder) -> Pairs:
    """Score every prompt against every topical statement of its memory, as the engine does."""
    totals: list[NDArray[np.int64]] = []
    bears: list[bool] = []
    strengths: list[str] = []
    for memory in memories:
        topical = [s for s in memory["statements"] if s["scope"] == "topical"]
        texts = [s["text"] for s in topical]
        matrix = quantise(embedder.embed(texts), embedder.scale)
        lexicon = scoring.Lexicon(texts)
        prompts = [p["prompt"] for p in memory["prompts"]]
        queries = quantise(embedder.embed(prompts, role="query"), embedder.scale)
        for prompt, query in zip(memory["prompts"], queries, strict=True):
            lexical = lexicon.score(scoring.query_terms([prompt["prompt"]]))
            scores = scoring.score(matrix, query[None], [1000], lexical, scale=embedder.scale)
            totals.append(scores.total)
            bears += [s["id"] in prompt["relevant"] for s in topical]
            strengths += [s["strength"] for s in topical]
    return Pairs(np.concatenate(totals), np.array(bears), np.array(strengths))


def fit_logistic(x: NDArray[np.float64], y: NDArray[np.bool_]) -> tuple[float, float]:
    """Fit P(y) = 1 / (1 + exp(-(a x + b))) by Newton's method; gives a and b."""
    design = np.stack([x, np.ones_like(x)], axis=1)
    weights = np.zeros(2)
    for _ in range(50):
        chance = 1 / (1 + np.exp(-design @ weights))
        gradient = design.T @ (y - chance)
        hessian = (design * (chance * (1 - chance))[:, None]).T @ design
        step = np.linalg.solve(hessian, gradient)
        weights += step
        if np.abs(step).max() < 1e-10:
            break
    return float(weights[0]), float(weights[1])


def make_table(slope: float, offset: float) -> dict[str, list[int]]:
    """Give the fitted curve as whole millionths at fixed totals."""
    chances = [1 / (1 + np.exp(-(slope * total / scoring.ONE + offset))) for total in KNOTS]
    return {"totals": list(KNOTS), "probabilities": [round(scoring.ONE * c) for c in chances]}


def best_threshold(chance: NDArray[np.float64], bears: NDArray[np.bool_], beta: float) -> float:
    """Give the threshold with the best F-measure, on a grid of hundredths."""
    grid = np.arange(0.01, 0.60, 0.01)
    return round(float(max(grid, key=lambda level: f_measure(chance >= level, bears, beta))), 2)


def f_measure(chosen: NDArray[np.bool_], bears: NDArray[np.bool_], beta: float) -> float:
    """Give the F-measure: recall counts ``beta`` times as much as precision."""
    hits = float((chosen & bears).sum())
    weighed = (1 + beta**2) * hits
    return weighed / (beta**2 * bears.sum() + chosen.sum()) if weighed else 0.0


def calibration_error(chance: NDArray[np.float64], bears: NDArray[np.bool_]) -> float:
    """Give the expected calibration error over candidates scored at least .05, ten bins."""
    kept = chance >= 0.05
    chance, bears = chance[kept], bears[kept]
    bins = np.minimum((chance * 10).astype(int), 9)
    gaps = [
        abs(chance[bins == b].mean() - bears[bins == b].mean()) * (bins == b).mean()
        for b in range(10)
        if (bins == b).any()
    ]
    return float(sum(gaps))


def report(name: str, pairs: Pairs, table: dict[str, list[int]], levels: dict[str, float]) -> None:
    """Print what the table and the thresholds do on some memories."""
    chance = scoring.probabilities(pairs.total, table) / scoring.ONE
    chosen = chance >= np.array([levels[s] for s in pairs.strength])
    hits = int((chosen & pairs.bears).sum())
    print(
        f"{name}: {len(chance)} pairs, {int(pairs.bears.sum())} bear; "
        f"calibration error {calibration_error(chance, pairs.bears):.3f}; "
        f"selected {int(chosen.sum())}: precision {hits / max(1, chosen.sum()):.3f}, "
        f"recall {hits / pairs.bears.sum():.3f}, F1 {f_measure(chosen, pairs.bears, 1):.3f}"
    )
    for strength in STRENGTHS:
        own = pairs.strength == strength
        hit = int((chosen & pairs.bears & own).sum())
        print(
            f"  {strength:<7} threshold {levels[strength]:.2f}: "
            f"precision {hit / max(1, (chosen & own).sum()):.3f}, "
            f"recall {hit / max(1, (pairs.bears & own).sum()):.3f}"
        )


def main() -> None:
    """Fit, report, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with relevance/")
    parser.add_argument("--embedder", default="bundled")
    parser.add_argument("--output", type=Path, help=f"the shipped one is {SHIPPED.name}")
    arguments = parser.parse_args()
    embedder = open_embedder(arguments.embedder)
    path = arguments.data / "relevance" / "memories.jsonl"
    train, dev = (score_pairs(read_memories(path, s), embedder) for s in ("train", "dev"))
    slope, offset = fit_logistic(train.total / scoring.ONE, train.bears)
    table = make_table(slope, offset)
    chance = scoring.probabilities(train.total, table) / scoring.ONE
    levels = {
        strength: best_threshold(
            chance[train.strength == strength], train.bears[train.strength == strength], beta
        )
        for strength, beta in BETAS.items()
    }
    print(f"P = 1 / (1 + exp(-({slope:.3f} total {offset:+.3f})))")
    report("train", train, table, levels)
    report("dev", dev, table, levels)
    if arguments.output:
        made = {"embedder": embedder.digest, "slope": f"{slope:.6f}", "offset": f"{offset:.6f}"}
        arguments.output.write_text(json.dumps(made | table) + "\n", encoding="utf-8")
        print(f"wrote {arguments.output}")


if __name__ == "__main__":
    main()
