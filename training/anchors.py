"""Make the anchors of the bundled embedder: means of groups of near labelled statements.

    python -m training.anchors [--moral-stories FILE] [--output DIR]

After ``training.export``. The vectors of all statements that the encoder learnt from are put
into groups by k-means; ``retrieval/anchors.py`` says what the groups' means are for. The seed is
fixed and one thread computes, so one machine gives the same bytes again.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import KMeans
from threadpoolctl import threadpool_limits

from holdfast.retrieval.embedder import (
    ANCHORS_NAME,
    CONFIG_NAME,
    MODEL_DIRECTORY,
    BundledEmbedder,
    quantise,
)

from . import labelled
from .export import sha256

COUNT = 5_000
ROUNDS = 12


def statements(moral_stories: Path | None) -> list[str]:
    """Give every statement that is learnt from, and the norms of the public pairs, each once."""
    bags = [*labelled.scenes(), *labelled.memories("train"), *labelled.groups()]
    texts = [text for bag in bags for text in bag.statements]
    if moral_stories:
        texts += [row["norm"] for row in labelled.json_lines(moral_stories)]
    return list(dict.fromkeys(texts))


def means(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Group vectors and give the groups' means: (``COUNT``, d), normalised."""
    grouping: Any = KMeans(COUNT, init="random", n_init=1, max_iter=ROUNDS, random_state=1)
    with threadpool_limits(1):
        centres: NDArray[np.float32] = grouping.fit(vectors).cluster_centers_
    return centres / np.linalg.norm(centres, axis=1, keepdims=True)


def main() -> None:
    """Embed, group, and write the anchors and their hash."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--moral-stories", type=Path, metavar="FILE", help="train_pairs.jsonl")
    parser.add_argument("--output", type=Path, default=MODEL_DIRECTORY)
    arguments = parser.parse_args()
    folder: Path = arguments.output
    config = json.loads((folder / CONFIG_NAME).read_text(encoding="utf-8"))
    mark = config["prompts"]["document"]
    texts = statements(arguments.moral_stories)
    embedder = BundledEmbedder(model=folder)
    print(f"{len(texts):,} statements", flush=True)
    vectors = embedder.embed([mark + text for text in texts], role="query")
    np.save(folder / ANCHORS_NAME, quantise(means(vectors), embedder.scale))
    config["sha256"][ANCHORS_NAME] = sha256(folder / ANCHORS_NAME)
    (folder / CONFIG_NAME).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    print(f"{COUNT:,} anchors, sha256 {config['sha256'][ANCHORS_NAME]}")


if __name__ == "__main__":
    main()
