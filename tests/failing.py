"""A process in which writes fail; ``test_write_faults`` starts it with the C file preloaded.

It reads orders from standard input, one line of JSON each, runs each in a process forked
for it, and answers with what was acknowledged before that ended.
"""

import ctypes
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from conftest import open_with
from fakes import FakeEmbedder

from holdfast import Holdfast
from holdfast.memory.errors import HoldfastError

MODES = ("count", "io error", "full disk", "kill", "torn write", "power cut")
SUBJECT, TEXT = "ada", "I walk to work."
Tell = Callable[..., None]


def append(holdfast: Holdfast, tell: Tell) -> None:
    """Append leaves, and sign them; what fails is done again, once."""
    for operation, call in (
        ("add", lambda: [s.id for s in holdfast.add(SUBJECT, TEXT)]),
        ("retrieve", lambda: holdfast.retrieve(SUBJECT, "Do I walk?").evidence_id),
        ("checkpoint", lambda: holdfast.audit.checkpoint().note),
    ):
        for attempt in (1, 2):
            try:
                tell(operation, call())
                break
            except HoldfastError as error:
                tell("failed", f"{type(error).__name__}: {error}")
                if attempt == 2:
                    raise


def work(order: dict[str, Any], shim: ctypes.CDLL, tell: Tell) -> None:
    """Do what an order says, with one failing call."""
    folder = Path(order["folder"])
    os.environ["XDG_CONFIG_HOME"] = str(folder / "config")
    how = (os.fsencode(folder), MODES.index(order["mode"]), order["at"])
    if order["opening"]:
        shim.arm(*how)
        holdfast = open_with(FakeEmbedder(), folder / "data")
        tell("open", True)
    else:
        holdfast = open_with(FakeEmbedder(), folder / "data")
        shim.arm(*how)
    append(holdfast, tell)
    tell("calls", shim.disarm())
    holdfast.close()
    tell("end", True)


def main(shim: ctypes.CDLL) -> None:
    """Serve orders until there are no more."""
    for line in sys.stdin:
        ours, theirs = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(ours)

            def tell(*what: Any, pipe: int = theirs) -> None:
                os.write(pipe, json.dumps(what).encode() + b"\n")

            try:
                work(json.loads(line), shim, tell)
            except BaseException as error:
                tell("raised", f"{type(error).__name__}: {error}")
            os._exit(0)
        os.close(theirs)
        with os.fdopen(ours, "rb") as pipe:
            told = [json.loads(each) for each in pipe]
        os.waitpid(child, 0)
        sys.stdout.write(json.dumps(told) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(ctypes.CDLL(sys.argv[1]))
