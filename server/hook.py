"""What a coding agent runs before it reads a prompt: ``holdfast hook claude-code``.

It gives the agent what bears on the prompt. It must answer at once and never stand in the
way: while a server runs the engine is not imported, and whatever goes wrong is one line on
standard error and exit status 0 (2 would have the agent throw the prompt away).
Contract: https://code.claude.com/docs/en/hooks (UserPromptSubmit).
"""

import json
import shlex
import shutil
import signal
import sys
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, cast

from ..memory.errors import InvalidInputError, StorageError
from ..memory.places import owner_socket
from .options import Door
from .wire import SOCKET, UnreachableError, Wire, segment

EVENT = "UserPromptSubmit"
SECONDS = 5.0
"""Longest time in all; then the prompt goes on without."""
AGENT_SECONDS = 10
"""After which the agent gives the hook up."""


def answer(event: BinaryIO, door: Door) -> dict[str, Any] | None:
    """Give what the agent is to read for its event; None when nothing bears on the prompt."""
    with _time_limit():
        prompt = _prompt(event.read())
        context = _context(prompt, door) if prompt.strip() else ""
    if not context:
        return None
    return {"hookSpecificOutput": {"hookEventName": EVENT, "additionalContext": context}}


def _prompt(event: bytes) -> str:
    try:
        said = json.loads(event)
    except (ValueError, RecursionError):
        raise InvalidInputError("standard input holds no JSON event of the agent") from None
    fields = cast("dict[str, Any]", said) if isinstance(said, dict) else {}
    prompt = fields.get("prompt")
    if fields.get("hook_event_name", EVENT) != EVENT or not isinstance(prompt, str):
        raise InvalidInputError(f"the event is no {EVENT} with a prompt")
    return prompt


def _context(prompt: str, door: Door) -> str:
    if door.url:
        return _asked(door.url, door.key, prompt, door.subject)
    path = owner_socket(door.directory)
    if path is not None:
        with suppress(UnreachableError):  # its owner was killed
            return _asked(f"{SOCKET}{path}", None, prompt, door.subject)
    if not door.directory.is_dir():
        raise StorageError(f"there is no data directory {door.directory}; add a statement first")
    with door.open() as holdfast:
        return holdfast.retrieve(door.subject, prompt).context


def _asked(address: str, key: str | None, prompt: str, subject: str) -> str:
    """Ask a server, which records the evidence."""
    wire = Wire(address, key=key, patience=0, timeout=SECONDS)
    path = f"/api/v1/subjects/{segment(subject)}/retrieve"
    return wire.ask("POST", path, body={"request": prompt, "candidates": False}).value["context"]


@contextmanager
def _time_limit() -> Generator[None]:
    """End what takes too long, wherever it hangs."""

    def late(*_: object) -> None:
        raise StorageError(f"no answer within {SECONDS:g} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def settings(door: Door) -> dict[str, Any]:
    """Give the part of the agent's settings that makes it run this hook."""
    words = [shutil.which("holdfast") or str(Path(sys.argv[0]).absolute()), "hook", "claude-code"]
    if door.data is not None:
        words += ["--data", str(door.directory)]
    if door.url:
        words += ["--url", door.url]
    if door.subjects:
        words += ["--subject", door.subject]
    run = {"type": "command", "command": shlex.join(words), "timeout": AGENT_SECONDS}
    return {"hooks": {EVENT: [{"hooks": [run]}]}}
