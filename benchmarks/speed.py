"""How fast Holdfast is, beside peers, on this machine and in this run: one table.

    python -m benchmarks.speed [--quick] [--sizes 1000,20000,100000] [--peers NAMES] [--json FILE]

500 statements to a subject; the prompt is short and the subjects asked of are warm. Each peer
runs in an environment of its own (made on first use, without network after that), and takes
turns with Holdfast, round by round. All hold the same texts, and the vectors that Holdfast made
of them; the programs in ``benchmarks/peers`` say how each was filled. A bar that is missed is
printed as missed.
"""

import argparse
import contextlib
import itertools
import json
import platform
import random
import statistics
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from holdfast import Holdfast, __version__

from . import corpus, environments, product
from .environments import PeerError, Worker
from .speed_table import show
from .telling import Say, telling

PEERS: dict[str, tuple[str, str, dict[str, str]]] = {
    "sentence-transformers": ("sentence-transformers", "sentence_transformer.py", {}),
    "chroma": ("chroma", "chroma_query.py", {}),
    "langgraph": ("langgraph", "langgraph_store.py", {}),
    "mem0-chroma": ("mem0", "mem0_memory.py", {"store": "chroma"}),
    "mem0-qdrant": ("mem0", "mem0_memory.py", {"store": "qdrant"}),
}
"""Name → environment, program, options."""
PROMPTS = [corpus.PROMPT, "Should I lend my brother money?", "Plan a weekend by the sea for us."]
SMALLEST = 1000
USERS = 10
"""Subjects asked of, in turn."""
TURN = 1.0
"""Seconds that a peer searches before it is Holdfast's turn again, at most ten searches."""
DISTURBED = 1.5


def main() -> None:
    """Measure and print."""
    arguments = _arguments()
    with telling() as say, tempfile.TemporaryDirectory(prefix="holdfast-speed-") as folder:
        report = measure(Path(folder), arguments, say)
    console = Console()
    show(console if console.is_terminal else Console(width=150), report)
    if arguments.json:
        arguments.json.write_text(json.dumps(report, indent=1), encoding="utf-8")


def measure(folder: Path, arguments: argparse.Namespace, say: Say) -> dict[str, Any]:
    """Take every measurement; ``speed_table`` makes rows and bars of them."""
    report: dict[str, Any] = {
        "machine": f"{platform.machine()}, {platform.system()}, Python "
        f"{platform.python_version()}, Holdfast {__version__}, bundled model",
        "sizes": {},
        "notes": [],
    }
    rounds = 3 if arguments.quick else 10
    say("the command line, from cold")
    report["cold"] = _cold(folder / "cold", 3 if arguments.quick else 7)
    say("add_many of 10,000")
    report["loading"] = product.loading(folder / "loading")
    with contextlib.ExitStack() as stack:
        smallest = stack.enter_context(Holdfast.open(folder / "smallest"))
        product.fill(smallest, 0, SMALLEST)
        vectors = _write_corpus(folder, arguments.sizes, smallest)
        workers = _start(folder, arguments, stack, report["notes"], say)
        if not arguments.quick:
            _check(workers, report["notes"], say)
        held = 0
        for size in sorted(arguments.sizes):
            with Holdfast.open(folder / "data") as holdfast:
                say(f"{size:,} statements: filling Holdfast")
                vectors[held:size] = product.fill(holdfast, held, size)
                vectors.flush()
                for name, worker in workers.items():
                    if name != "sentence-transformers":
                        say(f"{size:,} statements: filling {name}")
                        worker.ask(do="fill", to=size)
                say(f"{size:,} statements: measuring")
                report["sizes"][size] = _side_by_side(
                    holdfast, smallest, size, workers, rounds, folder / "data"
                )
            held = size
            say(f"{size:,} statements: a process that holds them")
            report["sizes"][size]["holding"] = product.holding(folder / "data")
    report["notes"] += _disturbed(report["sizes"])
    return report


def _disturbed(sizes: dict[int, Any]) -> list[str]:
    """Say where other work on the machine slowed PyTorch down, and the peers that embed with it."""
    name = "sentence-transformers"
    measured = {size: found["peers"].get(name) for size, found in sizes.items()}
    medians = {size: statistics.median(s) for size, s in measured.items() if s}
    return [
        f"at {size:,} embedding by {name} took {median / min(medians.values()):.1f} times as long "
        "as at its best here: something else was using the machine, and what mem0 and LangGraph "
        "show there is too much; run it again on an idle one"
        for size, median in medians.items()
        if median > DISTURBED * min(medians.values())
    ]


def _side_by_side(
    holdfast: Holdfast,
    smallest: Holdfast,
    size: int,
    workers: dict[str, Worker],
    rounds: int,
    data: Path,
) -> dict[str, Any]:
    """Time Holdfast and the peers in turns; give seconds by name."""
    subjects = size // corpus.PER_SUBJECT
    step = max(1, subjects // USERS)
    users = [corpus.subject(i * corpus.PER_SUBJECT) for i in range(0, subjects, step)]
    commit = product.Commit(data)
    try:
        timed = product.calls(holdfast, smallest, users, commit)
        generator = random.Random(1)
        product.interleaved(timed, 2, generator)  # warm-up
        turns = {name: _turn(worker, users) for name, worker in workers.items()}
        own: product.Seconds = {name: [] for name in timed}
        peers: product.Seconds = {name: [] for name in workers}
        for _ in range(rounds):
            for name, seconds in product.interleaved(timed, 2, generator).items():
                own[name] += seconds
            for name, worker in workers.items():
                asked = (users * product.IN_A_ROW)[: turns[name]]
                peers[name] += worker.ask(do="search", prompt=corpus.PROMPT, users=asked)
    finally:
        commit.close()
    own["add"] = product.adding(holdfast, 3 * rounds)
    adds = {
        name: worker.ask(do="add", times=3 * rounds)
        for name, worker in workers.items()
        if name not in ("sentence-transformers", "chroma")
    }
    return {"own": own, "peers": peers, "adds": adds}


def _turn(worker: Worker, users: list[str]) -> int:
    """Warm a peer up, and give how many searches fit into its turn."""
    if worker.name != PEERS["chroma"][1]:
        worker.ask(do="settle")
    first = worker.ask(do="search", prompt=corpus.PROMPT, users=users[:3])
    return min(product.IN_A_ROW, max(2, int(TURN / (sum(first) / len(first)))))


def _write_corpus(
    folder: Path, sizes: list[int], holdfast: Holdfast
) -> "np.memmap[Any, np.dtype[np.float32]]":
    """Put users and texts where the peers' programs find them, in the order of arrival.

    Returns:
        The file of their vectors, to be filled: float32 (n, d).
    """
    texts = corpus.texts(max(sizes))
    bounds = itertools.pairwise([0, *sorted(sizes)])
    order = [i for begin, end in bounds for rows in corpus.sittings(begin, end) for i in rows]
    rows = [(corpus.subject(i), texts[i]) for i in order]
    (folder / "rows.json").write_text(json.dumps(rows), encoding="utf-8")
    np.save(folder / "prompt.npy", holdfast.embedder.embed([corpus.PROMPT], role="query")[0])
    shape = (len(rows), holdfast.embedder.dimensions)
    return np.lib.format.open_memmap(folder / "vectors.npy", "w+", np.float32, shape)


def _start(
    folder: Path,
    arguments: argparse.Namespace,
    stack: contextlib.ExitStack,
    notes: list[str],
    say: Say,
) -> dict[str, Worker]:
    """Make the environments and start the peers' programs; note those that cannot be had."""
    workers: dict[str, Worker] = {}
    for name in arguments.peers:
        environment, script, options = PEERS[name]
        say(f"the environment of {name}")
        work = {} if name == "sentence-transformers" else {"work": str(folder)}
        try:
            python = environments.make(environment, arguments.environments)
            workers[name] = stack.enter_context(Worker(python, script, **work, **options))
        except PeerError as error:
            notes.append(f"{name} is left out: {error}")
    return workers


def _check(workers: dict[str, Worker], notes: list[str], say: Say) -> None:
    """Show that mem0 filled directly finds what it finds after real adds."""
    for name, worker in workers.items():
        if name.startswith("mem0"):
            say(f"{name}: 1,000 real adds, to compare")
            differs = worker.ask(do="check", prompts=PROMPTS, count=SMALLEST)
            same = "finds the same, with the same scores, as after 1,000 real adds"
            notes.append(f"{name}, filled through its store's insert: {differs or same}")


def _cold(data: Path, times: int) -> dict[str, Any]:
    """Time the command line in new processes, on 500 statements."""
    with Holdfast.open(data) as holdfast:
        product.fill(holdfast, 0, corpus.PER_SUBJECT)
    command = product.command_line()
    query = ["query", corpus.PROMPT, "--subject", corpus.subject(0), "--data", str(data)]
    return {
        "query": product.cold([*command, *query], times),
        "help": product.cold([*command, "--help"], times),
        "imported": product.imported_for_help(),
    }


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument(
        "--sizes", default="1000,20000,100000", metavar="N,N",
        help=f"statements in all, multiples of 500, at most {corpus.MOST}",
    )  # fmt: skip
    parser.add_argument("--quick", action="store_true", help="1,000 statements, few rounds")
    parser.add_argument(
        "--peers", default=",".join(PEERS), metavar="A,B", help=f"of {','.join(PEERS)}; or none"
    )
    parser.add_argument(
        "--environments", type=Path, default=environments.default_directory(), metavar="DIR",
        help="where the peers' environments are kept",
    )  # fmt: skip
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write all figures here")
    arguments = parser.parse_args()
    arguments.sizes = [SMALLEST] if arguments.quick else list(map(int, arguments.sizes.split(",")))
    if any(size % corpus.PER_SUBJECT or not 0 < size <= corpus.MOST for size in arguments.sizes):
        parser.error(f"sizes are multiples of {corpus.PER_SUBJECT}, at most {corpus.MOST}")
    arguments.peers = [] if arguments.peers == "none" else arguments.peers.split(",")
    unknown = set(arguments.peers) - set(PEERS)
    if unknown:
        parser.error(f"unknown peers: {', '.join(sorted(unknown))}")
    return arguments


if __name__ == "__main__":
    main()
