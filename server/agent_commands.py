"""The commands for coding agents: ``hook`` before each prompt, and ``mcp``, which gives tools."""

import logging
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from threading import Lock
from typing import TYPE_CHECKING, Any

import click

from ..memory.errors import HoldfastError
from ..memory.places import owner_socket
from .options import Door, TextCommand, common, server_extra, write_json
from .render import shown

if TYPE_CHECKING:
    from .tools import Session


class FailOpen(TextCommand):
    """A command that is never a reason for its caller to stop, not even by bad use."""

    def make_context(self, *args: Any, **more: Any) -> click.Context:
        """Read the arguments; what is wrong with them is only told."""
        try:
            return super().make_context(*args, **more)
        except click.UsageError as error:
            _tell(error.format_message())
            raise click.exceptions.Exit(0) from None


@click.command(cls=FailOpen)
@click.argument("agent", type=click.Choice(("claude-code",)))
@click.option("--install", is_flag=True, help="Print the settings with which the agent runs it.")
@common()
@click.pass_obj
def hook(door: Door, agent: str, install: bool) -> int:  # noqa: ARG001
    """Give a coding agent what bears on a prompt.

    Reads the agent's event on standard input. Whatever goes wrong, the prompt goes on:
    exit status 0, with a line on standard error.
    """
    from . import hook as asked

    try:
        if install:
            write_json(asked.settings(door))
            _tell(
                "put this into ~/.claude/settings.json, or into a project's .claude/settings.json"
            )
            return 0
        found = asked.answer(sys.stdin.buffer, door)
        if found is not None:
            write_json(found)
    except Exception as error:
        what = str(error) if isinstance(error, HoldfastError) else type(error).__name__
        _tell(f"{what}; the prompt goes on without values")
    return 0


def run_hook(arguments: Sequence[str]) -> int:
    """Run ``holdfast hook`` by itself, without the other commands; give its exit status."""
    try:
        status: Any = hook.main(
            list(arguments), prog_name="holdfast hook", obj=Door(), standalone_mode=False
        )
    except (click.Abort, KeyboardInterrupt, BrokenPipeError):
        return 0
    return status if isinstance(status, int) else 0


def _tell(message: str) -> None:
    print(f"holdfast: {shown(message)}", file=sys.stderr)  # noqa: T201


@click.command()
@common(subject="The only one it is about. Default: whom the model names, else $HOLDFAST_SUBJECT.")
@click.pass_obj
def mcp(door: Door) -> None:
    """Give a model tools, on standard input and output.

    Speaks the Model Context Protocol. Where a server runs it works through that; else it
    owns the data directory, and other commands work through it.
    """
    with server_extra():
        import anyio

        from . import logs
        from .mcp_server import serve_stdio

    logs.configure(as_json=False)
    logging.getLogger("holdfast").setLevel(logging.WARNING)
    with ExitStack() as opened:
        place = _Place(door, opened)
        place.session()
        anyio.run(serve_stdio, place.session)


class _Place:
    """Where the statements are; sought anew when the server that had them has ended."""

    def __init__(self, door: Door, opened: ExitStack) -> None:
        self._door = door
        self._opened = opened
        self._lock = Lock()
        self._session: Session | None = None
        self._is_through_owner = False

    def session(self) -> "Session":
        """Give on whose behalf the model works, and with what."""
        with self._lock:
            if self._session is None or (self._is_through_owner and not self._answers()):
                self._opened.close()
                self._session = self._open()
            return self._session

    def _answers(self) -> bool:
        from .wire import SOCKET, Wire

        path = owner_socket(self._door.directory)
        return path is not None and Wire(f"{SOCKET}{path}", patience=0).answers()

    def _open(self) -> "Session":
        from .app import create_app
        from .auth import LOCAL
        from .client import Remote
        from .serve import beside
        from .tools import Session

        door, default = self._door, self._door.subject
        engine = self._opened.enter_context(door.open(brief=False))
        self._is_through_owner = isinstance(engine, Remote) and not door.url
        if not isinstance(engine, Remote):
            app = create_app(engine)
            self._opened.enter_context(beside(engine, app))
            engine = app.state.service.engine(LOCAL)
        return Session(engine, LOCAL, bound=default if door.subjects else None, default=default)
