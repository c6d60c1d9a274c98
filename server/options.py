"""What the commands of the command line share: options, opening the engine, input, errors.

An option may stand before or after the command's name; the later one counts. The
engine is imported when a command opens it, so that help is shown at once.
"""

import io
import os
import re
import sys
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import click

from ..memory.errors import (
    ConfigurationError,
    HoldfastError,
    InvalidInputError,
    LockedError,
)
from .render import Page, to_json

if TYPE_CHECKING:
    from ..retrieval.engine import Holdfast
    from .client import Remote

CHECK_FAILED = 1
BAD_USE = 2
INTERRUPTED = 130

Command = TypeVar("Command", bound=Callable[..., Any])


@dataclass
class Door:
    """What was said of every command: where the data lie, whose, and in what form to answer."""

    data: Path | None = None
    said_url: str | None = None
    said_key: str | None = None
    subjects: Sequence[str] = ()
    as_json: bool = False

    @property
    def url(self) -> str | None:
        """The server to ask: ``--url``, else ``$HOLDFAST_URL`` unless ``--data`` is given.

        Raises:
            InvalidInputError: both are given.
        """
        if self.said_url and self.data is not None:
            raise InvalidInputError("--url and --data name two places: give one of them")
        if self.data is not None:
            return None
        return self.said_url or os.environ.get("HOLDFAST_URL") or None

    @property
    def key(self) -> str | None:
        """What to show the server at ``url``."""
        return self.said_key or os.environ.get("HOLDFAST_KEY") or None

    @property
    def directory(self) -> Path:
        """The data directory."""
        from ..memory.places import data_directory

        named = self.data or os.environ.get("HOLDFAST_DATA") or data_directory()
        return Path(named).expanduser().absolute()

    @property
    def subject(self) -> str:
        """The one subject that a command is about.

        Raises:
            InvalidInputError: several were named.
        """
        subjects = self.subjects or [default_subject()]
        if len(subjects) > 1:
            raise InvalidInputError("this command is about one subject: give --subject once")
        return subjects[0]

    @contextmanager
    def open(
        self, *, read_only: bool = False, brief: bool = True
    ) -> "Generator[Holdfast | Remote]":
        """Open the engine: a server's where a URL is given, else the data directory's.

        A directory that a server owns is spoken to through the server's socket. ``brief`` is for
        a process that makes one call.
        """
        remote = self._at_url() or self._at_owner()
        if remote is None:
            from ..retrieval.engine import Holdfast

            try:
                opened = Holdfast.open(self.data, read_only=read_only, brief=brief)
            except LockedError:
                remote = self._at_owner()  # a server has begun meanwhile
                if remote is None:
                    raise
            else:
                with opened:
                    yield opened
                return
        yield remote

    def _at_url(self) -> "Remote | None":
        if self.url is None:
            return None
        from .client import Remote
        from .wire import Wire

        return Remote(Wire(self.url, key=self.key))

    def _at_owner(self) -> "Remote | None":
        from ..memory.places import owner_socket

        found = owner_socket(self.directory)
        if found is None:
            return None
        from .client import Remote
        from .wire import SOCKET, Wire

        wire = Wire(f"{SOCKET}{found}", patience=0)
        return Remote(wire, self.directory) if wire.answers() else None

    def answer(self, value: Any, write: Callable[[Page], None]) -> None:
        """Print ``value`` as JSON, or let ``write`` lay it out for a person."""
        if self.as_json:
            write_json(value)
        else:
            write(Page())


def write_json(value: Any) -> None:
    """Print one JSON document on standard output, in signs that it can carry."""
    text = to_json(value)
    encoding = (getattr(sys.stdout, "encoding", None) or "utf-8").lower()
    if encoding.replace("-", "") != "utf8":
        import json

        text = json.dumps(json.loads(text), indent=2)
    sys.stdout.write(text + "\n")


def default_subject() -> str:
    """Give ``$HOLDFAST_SUBJECT``, else the login name.

    Raises:
        InvalidInputError: there is neither.
    """
    named = os.environ.get("HOLDFAST_SUBJECT")
    if named:
        return named
    import getpass

    try:
        return getpass.getuser()
    except (KeyError, OSError):
        raise InvalidInputError(
            "whose statements? Give --subject or set HOLDFAST_SUBJECT"
        ) from None


WHOSE = "Whose statements (default: $HOLDFAST_SUBJECT, else the login name)."


def common(*, subject: str | None = WHOSE, remote: bool = True) -> Callable[[Command], Command]:
    """Give a command the options of all.

    Args:
        subject: the help of ``--subject``; None: the command has none.
        remote: whether it can be done by a server (``--url``, ``--key``).
    """

    def decorate(command: Command) -> Command:
        command = click.option(
            "--json", "as_json", is_flag=True, expose_value=False, callback=_keep("as_json"),
            help="Print JSON.",
        )(command)  # fmt: skip
        command = click.option(
            "--data", metavar="DIR", type=click.Path(path_type=Path), expose_value=False,
            callback=_keep("data"),
            help="Data directory (default: $HOLDFAST_DATA, else the user's own).",
        )(command)  # fmt: skip
        if remote:
            command = click.option(
                "--key", metavar="KEY", expose_value=False, callback=_keep("said_key"),
                help="Key for --url; better in $HOLDFAST_KEY.",
            )(command)  # fmt: skip
            command = click.option(
                "--url", metavar="URL", expose_value=False, callback=_keep("said_url"),
                help="Ask this server in place of a data directory (default: $HOLDFAST_URL).",
            )(command)  # fmt: skip
        if subject is None:
            return command
        return click.option(
            "--subject", metavar="NAME", multiple=True, expose_value=False,
            callback=_keep("subjects"),
            help=subject,
        )(command)  # fmt: skip

    return decorate


def _keep(name: str) -> Callable[[click.Context, click.Parameter, Any], None]:
    def callback(context: click.Context, _: click.Parameter, value: Any) -> None:
        door = context.ensure_object(Door)
        if value:
            setattr(door, name, value)

    return callback


def traits_options(command: Command) -> Command:
    """Give a command the options that say what a statement is."""
    from ..memory.models import KINDS, SCOPES, STRENGTHS

    options: Sequence[tuple[str, dict[str, Any]]] = (
        ("--kind", {"type": click.Choice(KINDS)}),
        ("--strength", {"type": click.Choice(STRENGTHS)}),
        (
            "--scope",
            {
                "type": click.Choice(SCOPES),
                "help": "topical: when it bears on the request; always: with every request.",
            },
        ),
        (
            "--context",
            {
                "multiple": True,
                "metavar": "NAME",
                "help": "Only for requests in this context (repeatable).",
            },
        ),
        (
            "--valid-from",
            {"metavar": "TIME", "help": "From when it holds (ISO 8601; a date: 00:00 UTC)."},
        ),
        ("--valid-to", {"metavar": "TIME", "help": "Until when it holds, exclusive."}),
    )
    for name, settings in reversed(options):
        command = click.option(name, **settings)(command)
    return command


def text_of(argument: str) -> str:
    """Give the argument, or what standard input says where it is ``-``.

    Raises:
        InvalidInputError: standard input is not text.
    """
    if argument != "-":
        return argument
    try:
        return sys.stdin.buffer.read().decode("utf-8-sig")
    except UnicodeDecodeError:
        raise InvalidInputError(
            "standard input is not UTF-8 text; convert it first, for example with iconv"
        ) from None


def file_text(path: Path) -> str:
    """Read a file's text.

    Raises:
        InvalidInputError: it cannot be read, or is not text.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise InvalidInputError(f"{path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise InvalidInputError(f"{path} is not UTF-8 text") from None


def json_of(text: str) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        InvalidInputError: it is none.
    """
    import json

    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise InvalidInputError("this is no JSON document; give the file that export wrote")
    return cast("dict[str, Any]", value)


def write_file(path: Path, content: str | bytes, *, private: bool = False) -> None:
    """Write a file, whole or not at all; a text in UTF-8.

    Args:
        path: where; what is there already is replaced.
        content: of the file.
        private: for its owner only: it holds what a subject said.

    Raises:
        InvalidInputError: it cannot be written; what was there stays.
    """
    raw = content.encode() if isinstance(content, str) else content
    mode = 0o600 if private else 0o666
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        if path.exists() and not path.is_file():  # such as /dev/stdout
            path.write_bytes(raw)
            return
        try:
            with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "wb") as f:
                f.write(raw)
            beside.replace(path)
        finally:
            beside.unlink(missing_ok=True)
    except OSError as error:
        raise InvalidInputError(f"{path} cannot be written: {error.strerror}") from None


SERVER_EXTRA = frozenset(
    "anyio fastapi httpx litellm mcp prometheus_client starlette uvicorn".split()
)


@contextmanager
def server_extra() -> Generator[None]:
    """Import what needs the server's own packages, while the block runs.

    Raises:
        ConfigurationError: they are not installed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in SERVER_EXTRA:
            raise
        raise ConfigurationError(
            f"the server needs {error.name}; install it with: pip install 'holdfast[server]'"
        ) from None


class TextCommand(click.Command):
    """A command whose texts may begin with a dash, as a line of a list does.

    What has white space in it before any ``=`` is no option.
    """

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read the arguments; the texts are hidden from the option parser meanwhile."""
        hidden = ["\0" + word if re.match(r"-[^=\s]*\s", word) else word for word in args]
        rest = super().parse_args(ctx, hidden)
        for name, value in ctx.params.items():
            if isinstance(value, str):
                ctx.params[name] = value.removeprefix("\0")
        return rest


class Commands(click.Group):
    """A group whose errors are one line on standard error, and whose statuses are promised.

    0: done. 1: a check failed. 2: bad use, bad input, or something that stands in the way.
    """

    command_class = TextCommand

    def run(self, arguments: Sequence[str] | None = None) -> int:
        """Run one command line and give its exit status."""
        for stream in (sys.stdout, sys.stderr):  # a sign that it lacks is no reason to fail
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="backslashreplace")
        try:
            status: Any = self.main(
                None if arguments is None else list(arguments),
                prog_name="holdfast",
                standalone_mode=False,
            )
            return status if isinstance(status, int) else 0
        except click.exceptions.NoArgsIsHelpError as error:
            click.echo(error.ctx.get_help() if error.ctx else error.format_message())
            return BAD_USE
        except click.UsageError as error:
            path = error.ctx.command_path if error.ctx else "holdfast"
            return _complain(f"{error.format_message()} Try: {path} --help")
        except click.ClickException as error:
            return _complain(error.format_message())
        except (click.Abort, KeyboardInterrupt):
            return INTERRUPTED
        except HoldfastError as error:
            if os.environ.get("HOLDFAST_DEBUG"):
                raise
            return _complain(str(error))
        except Exception as error:
            if os.environ.get("HOLDFAST_DEBUG"):
                raise
            return _complain(
                f"unexpected {type(error).__name__}: this is a bug; "
                "HOLDFAST_DEBUG=1 shows where it happened"
            )

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; a reader that has left (``| head``) is no failure."""
        try:
            status = super().invoke(ctx)
            sys.stdout.flush()
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 0
        return status


def _complain(message: str) -> int:
    from .render import shown

    print(f"holdfast: {shown(message)}", file=sys.stderr)  # noqa: T201
    return BAD_USE
