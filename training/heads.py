"""Fit what reads kind, strength and scope off a statement, and how two statements relate.

    python -m training.heads [--output FILE]

Softmax regressions on the bundled embedder's vector of a statement beside what the rules of
``reading`` say of its words; one on what two statements have in common (``relation``); and one
that tells a sentence that asks from one that is told or pasted (``ask``), and one that tells
a sentence which would undo what is kept ("ignore my preferences": ``override``).
Everything printed is cross-validated over domains (of pairs: over pairs), so no statement is
judged by what it was fitted on; the rules are judged on the same statements.
"""

import argparse
from collections.abc import Sequence
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold, KFold

from holdfast.memory.models import KINDS, SCOPES, STRENGTHS
from holdfast.retrieval import heads, reading
from holdfast.retrieval.embedder import open_embedder
from holdfast.retrieval.heads import FILE, RELATIONS, pair_features, text_features
from holdfast.retrieval.relation import Words
from holdfast.retrieval.request import parse

from . import labelled

FOLDS = 5
SHORT_ASK = 40
"""Words of a prompt that counts as one sentence that asks; of a longer one the last does."""
STRONG, PAIRED = 1.0, 0.3
"""Inverse strength of the regularisation, of the heads and of the relation."""
CHOICES: dict[str, Sequence[str]] = {"kind": KINDS, "strength": STRENGTHS, "scope": SCOPES}
MEANT = {"none": "none", "duplicate": "similar", "revision": "possible_revision",
         "tension": "tension"}  # fmt: skip
Floats = NDArray[np.float32]


def fit(features: Floats, labels: NDArray[np.str_], choices: Sequence[str], c: float) -> Floats:
    """Fit a softmax regression; gives weights (features + 1, choices), the last row the bias."""
    model: Any = LogisticRegression(C=c, max_iter=3000)
    model.fit(features, labels)
    order = [list(model.classes_).index(choice) for choice in choices]
    weights, bias = model.coef_, model.intercept_
    if len(choices) == 2:
        weights, bias = np.vstack([-weights, weights]) / 2, np.hstack([-bias, bias]) / 2
    return np.vstack([weights[order].T, bias[order][None]]).astype(np.float32)


def judged(
    features: Floats, labels: NDArray[np.str_], choices: Sequence[str], c: float, folds: Any
) -> Floats:
    """Give (n, choices) probabilities, each row from a fit that has not seen its fold."""
    found = np.zeros((len(features), len(choices)), np.float32)
    for inside, outside in folds:
        weights = fit(features[inside], labels[inside], choices, c)
        found[outside] = heads.softmax(features[outside], weights)
    return found


def confusion(labels: NDArray[np.str_], read: NDArray[np.str_], choices: Sequence[str]) -> str:
    """Give a table: rows what is labelled, columns what was read."""
    width = max(map(len, choices)) + 1
    lines = [" " * width + "".join(choice.rjust(width) for choice in choices)]
    for label in choices:
        counts = [int(((labels == label) & (read == choice)).sum()) for choice in choices]
        lines.append(label.rjust(width) + "".join(str(n).rjust(width) for n in counts))
    return "\n".join(lines)


def fit_reader(embed: Any) -> dict[str, Floats]:
    """Fit and report the three heads."""
    rows = list({row["text"]: row for row in labelled.statements()}.values())
    texts = [row["text"] for row in rows]
    vectors = embed(texts)
    features = np.stack([text_features(t, v) for t, v in zip(texts, vectors, strict=True)])
    ruled = [reading.read(text) for text in texts]
    domains = np.array([row["domain"] for row in rows])
    weights: dict[str, Floats] = {}
    for name, choices in CHOICES.items():
        labels = np.array([row[name] for row in rows])
        folds = GroupKFold(FOLDS).split(features, labels, domains)
        chances = judged(features, labels, choices, STRONG, folds)
        read = np.array([heads.choose(name, row) for row in chances])
        rules = np.array([getattr(each, name) for each in ruled])
        dev = np.array([row["domain"] in DEV for row in rows])
        print(f"{name}: {len(rows)} statements, accuracy {np.mean(read == labels):.3f} (rules "
              f"{np.mean(rules == labels):.3f}); dev memories {np.mean((read == labels)[dev]):.3f} "
              f"(rules {np.mean((rules == labels)[dev]):.3f})")  # fmt: skip
        print(confusion(labels, read, choices), flush=True)
        weights[name] = fit(features, labels, choices, STRONG)
    return weights


def fit_relation(embed: Any) -> Floats:
    """Fit and report how two statements relate."""
    pairs = labelled.rows("pairs.jsonl")
    first, second = embed([p["first"] for p in pairs]), embed([p["second"] for p in pairs])
    earlier, later = ([Words(p[name]) for p in pairs] for name in ("first", "second"))
    features = pair_features(later, earlier, second, first)
    labels = np.array([p["label"] for p in pairs])
    folds = KFold(FOLDS, shuffle=True, random_state=1).split(features)
    chances = judged(features, labels, RELATIONS, PAIRED, folds)
    weights = fit(features, labels, RELATIONS, PAIRED)
    strangers = _unrelated(embed, weights)
    said = np.array([heads.related(row) or "none" for row in chances])
    alarms = np.array([heads.related(row) or "none" for row in strangers])
    meant = np.array([MEANT[label] for label in labels])
    print(f"relation: {len(pairs)} pairs, cross-validated")
    matter = {"similar", "possible_revision"}
    for names in (matter, {"similar"}, {"possible_revision"}, {"tension"}):
        given, right = np.isin(said, list(names)), np.isin(meant, list(names))
        print(
            f"  {' or '.join(sorted(names))}: precision {np.mean(right[given]):.3f}, recall "
            f"{np.mean(given[right]):.3f}; said of {np.isin(alarms, list(names)).mean():.2%} of "
            f"{len(strangers)} pairs of one memory"
        )
    return weights


def _unrelated(embed: Any, weights: Floats) -> Floats:
    """Judge pairs of different statements of one memory, of which hardly any is related."""
    features: list[Floats] = []
    for bag in labelled.memories("dev"):
        vectors, words = embed(bag.statements), list(map(Words, bag.statements))
        old, new = zip(*combinations(range(len(vectors)), 2), strict=True)
        said = [[words[i] for i in places] for places in (new, old)]
        features.append(pair_features(*said, vectors[list(new)], vectors[list(old)]))
    return heads.softmax(np.concatenate(features), weights)


def fit_ask(embed: Any) -> Floats:
    """Fit what tells a sentence that asks from one that tells; reported on what was left out."""

    def told(*, left_out: bool) -> list[str]:
        return _sentences(labelled.half("passages.txt", left_out=left_out))

    def asked(bags: Sequence[labelled.Bag]) -> list[str]:
        prompts = [parse(text).turns[0] for bag in bags for text in bag.prompts]
        return [
            turn.sentences[-1] if turn.whole is None or len(turn.whole.split()) > SHORT_ASK
            else turn.whole
            for turn in prompts
        ]  # fmt: skip

    asks = asked([*labelled.scenes(), *labelled.memories("train", cued=True)])
    tells = told(left_out=False)
    weights = fit_two(embed, [(asks, 1), (tells, 0)], 3.0)
    dev = asked(labelled.memories("dev"))
    report_two("asks", embed, weights, {"dev prompts": dev, "passages": told(left_out=True)})
    return weights


def fit_override(embed: Any) -> Floats:
    """Fit what tells a sentence that would undo what is kept from all that persons write."""

    def written(bags: Sequence[labelled.Bag]) -> list[str]:
        return _sentences([text for bag in bags for text in bag.prompts])

    plain = written([*labelled.scenes(), *labelled.memories("train", cued=True)])
    plain += _sentences(labelled.half("passages.txt", left_out=False))
    attacks = [
        *labelled.half("attacks.txt", left_out=False), *labelled.lines("further_attacks.txt")
    ]  # fmt: skip
    weights = fit_two(embed, [(plain, 0), (_sentences(attacks), 1)], 10.0)
    left_out = {
        "dev prompts": written(labelled.memories("dev")),
        "passages": _sentences(labelled.half("passages.txt", left_out=True)),
        "attacks": _sentences(labelled.half("attacks.txt", left_out=True)),
    }
    report_two("undoes", embed, weights, left_out)
    return weights


def fit_two(embed: Any, texts: Sequence[tuple[Sequence[str], int]], c: float) -> Floats:
    """Fit what tells texts that are something (1) from those that are not (0), each as weighty."""
    model: Any = LogisticRegression(C=c, max_iter=3000, class_weight="balanced")
    labels = np.concatenate([np.full(len(own), label) for own, label in texts])
    model.fit(np.concatenate([embed(own) for own, _ in texts]), labels)
    weights = np.vstack([model.coef_.T, model.intercept_[None]]).astype(np.float32)
    return np.hstack([-weights / 2, weights / 2])


def report_two(what: str, embed: Any, weights: Floats, left_out: dict[str, list[str]]) -> None:
    """Print of how many of some texts it is said."""
    for name, texts in left_out.items():
        chance = heads.softmax(embed(texts), weights)[:, 1]
        print(f"{what}: said of {np.mean(chance >= 0.5):.3f} of {len(texts)} left out, {name}")


def _sentences(texts: Sequence[str]) -> list[str]:
    return [s for text in texts for s in parse(text).turns[0].sentences]


DEV = {bag.name for bag in labelled.memories("dev")}


def main() -> None:
    """Fit, report, and write the heads."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--output", type=Path, help=f"the shipped one is {FILE.name}")
    arguments = parser.parse_args()
    embedder = open_embedder("bundled")
    made = {**fit_reader(embedder.embed), "relation": fit_relation(embedder.embed)}
    asked = partial(embedder.embed, role="query")
    made |= {"ask": fit_ask(asked), "override": fit_override(asked)}
    if arguments.output:
        np.savez(arguments.output, embedder=np.array(embedder.digest), **made)
        print(f"wrote {arguments.output}")


if __name__ == "__main__":
    main()
