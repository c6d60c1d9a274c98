"""What a person sees: one page layout, in colour on a terminal and as plain lines in a pipe.

It knows how to lay out values, not where they come from. A subject's text is shown
as text: never read as markup, and no control, bidirectional or other unseen
character of it reaches the terminal. rich is imported on a terminal only.
"""

import json
import sys
import textwrap
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TextIO, cast

if TYPE_CHECKING:
    from rich.console import Console

    from ..memory.models import Statement
    from ..retrieval.results import Candidate

Style = Literal["", "title", "dim", "good", "bad", "warn", "must", "should", "prefer"]

_RICH_STYLES: dict[str, str] = {
    "title": "bold", "dim": "dim", "good": "green", "bad": "bold red", "warn": "yellow",
    "must": "bold red", "should": "yellow", "prefer": "cyan",
}  # fmt: skip
_JOINERS = "\u200c\u200d"  # letters and emoji are made with them
Progress = Callable[[int, int], None]


def shown(text: str) -> str:
    """Give ``text`` for one line of a terminal: white space as a space, the unseen escaped."""
    return text if text.isprintable() else "".join(map(_shown, text))


def _shown(sign: str) -> str:
    if sign.isprintable() or sign in _JOINERS:
        return sign
    return " " if sign.isspace() else _escaped(sign)


def _escaped(sign: str) -> str:
    return f"\\u{ord(sign):04x}" if ord(sign) <= 0xFFFF else f"\\U{ord(sign):08x}"


def shown_time(when: datetime | None) -> str:
    """Give a time to the second, in UTC; "" for None."""
    return "" if when is None else when.strftime("%Y-%m-%d %H:%M:%S")


def plain_value(value: Any) -> Any:
    """Turn dataclasses into objects, tuples into lists and times into ISO 8601, all through."""
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain_value(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        items = cast("Mapping[Any, Any]", value).items()
        return {str(name): plain_value(inner) for name, inner in items}
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return [plain_value(inner) for inner in cast("Sequence[Any]", value)]
    if isinstance(value, datetime):
        return value.isoformat()
    return str(value) if isinstance(value, Path) else value


def to_json(value: Any) -> str:
    """Render a value as JSON in which only what is seen stands unescaped."""
    text = json.dumps(plain_value(value), ensure_ascii=False, indent=2)
    return "".join(
        sign if sign == "\n" or sign.isprintable() else json.dumps(sign)[1:-1] for sign in text
    )


def _console(stream: TextIO) -> "Console":
    from rich.console import Console

    return Console(file=stream, highlight=False, markup=False, emoji=False)


class Page:
    """Lines for one stream: through rich on a terminal, else plain.

    Args:
        stream: where to write; None: standard output.
        width: columns at which plain lines are wrapped; None: a plain line is never
            wrapped, so that tools can read it. A terminal's own width always counts.
    """

    def __init__(self, stream: TextIO | None = None, *, width: int | None = None) -> None:
        self._stream = stream or sys.stdout
        self._width = width
        self._console = _console(self._stream) if self._stream.isatty() else None

    @property
    def is_terminal(self) -> bool:
        """Whether a person watches."""
        return self._console is not None

    def line(self, text: str = "", style: Style = "", *, indent: int = 0) -> None:
        """Write a paragraph; its continuation lines keep the indent."""
        if self._console is None:
            for row in self._wrapped(shown(text), indent):
                self._write(" " * indent + row)
            return
        from rich.padding import Padding

        self._console.print(Padding(self._text(text, style), (0, 0, 0, indent)))

    def block(self, text: str, style: Style = "", *, indent: int = 2) -> None:
        """Write text of several lines, each shown safely."""
        for row in text.splitlines():
            self.line(row, style, indent=indent)

    def entry(
        self,
        mark: str,
        text: str,
        note: str = "",
        *,
        style: Style = "",
        mark_style: Style = "",
        mark_width: int = 6,
        gap: int = 2,
    ) -> None:
        """Write a mark (flush right), a text beside it, and a dim note under the text."""
        margin = mark_width + gap
        if self._console is None:
            head = shown(mark).rjust(mark_width) + " " * gap
            for number, row in enumerate([*self._wrapped(shown(text), margin)]):
                self._write((head if not number else " " * margin) + row)
            for row in self._wrapped(shown(note), margin) if note else ():
                self._write(" " * margin + row)
            return
        from rich.table import Table
        from rich.text import Text

        grid = Table.grid(padding=(0, 0))
        grid.add_column(width=mark_width, justify="right", no_wrap=True)
        grid.add_column(width=gap)
        grid.add_column(overflow="fold")
        grid.add_row(
            Text(shown(mark), _RICH_STYLES.get(mark_style, "")), "", self._text(text, style)
        )
        if note:
            grid.add_row("", "", self._text(note, "dim"))
        self._console.print(grid)

    def table(
        self, names: Sequence[str], rows: Sequence[Sequence[str]], *, style_by: int | None = None
    ) -> None:
        """Write a table; only its last column may wrap.

        Args:
            names: the columns, shown on a terminal only.
            rows: cells, each of them text as it is.
            style_by: column whose cell (must, should, prefer) names its own style.
        """
        if self._console is None:
            widths = [
                max((len(shown(row[i])) for row in rows), default=0) for i in range(len(names))
            ]
            for row in rows:
                cells = [shown(cell).ljust(width) for cell, width in zip(row, widths, strict=True)]
                self._write("  ".join(cells).rstrip())
            return
        from rich.table import Table
        from rich.text import Text

        table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", show_edge=False)
        for number, name in enumerate(names):
            last = number == len(names) - 1
            table.add_column(name, no_wrap=not last, overflow="fold" if last else "ellipsis")
        for row in rows:
            table.add_row(
                *(
                    Text(shown(cell), _RICH_STYLES.get(cell, "") if i == style_by else "")
                    for i, cell in enumerate(row)
                )
            )
        self._console.print(table)

    def _wrapped(self, text: str, margin: int) -> list[str]:
        if self._width is None:
            return [text]
        return textwrap.wrap(text, max(self._width - margin, 20)) or [""]

    def _write(self, row: str) -> None:
        self._stream.write(row.rstrip() + "\n")

    @staticmethod
    def _text(text: str, style: Style) -> Any:
        from rich.text import Text

        return Text(shown(text), _RICH_STYLES.get(style, ""), overflow="fold")


def traits(statement: "Statement") -> str:
    """Say what a statement is, on one line: strength, kind, scope if always, contexts."""
    scope = ["always"] if statement.scope == "always" else []
    contexts = [f"in {', '.join(statement.contexts)}"] if statement.contexts else []
    return " · ".join([statement.strength, statement.kind, *scope, *contexts])


def percent(share: float) -> str:
    """Write a probability so that 0 and 1 stand only for themselves."""
    if 0 < share < 0.005:
        return "<1%"
    return ">99%" if 0.995 <= share < 1 else f"{share:.0%}"


def write_candidate(page: Page, candidate: "Candidate", *, ids: bool = True) -> None:
    """Write one candidate: its score, its words, and why it is in or out."""
    statement = candidate.statement
    note = [traits(statement)]
    if candidate.verdict != "injected":
        note.insert(0, why_not(candidate))
    if ids:
        note.append(statement.id)
    injected = candidate.verdict == "injected"
    mark = "always" if candidate.lane == "always" else percent(candidate.score)
    if injected and candidate.lane == "topical":
        mark = f"✓ {mark:>4}"
    page.entry(
        mark,
        statement.text,
        " · ".join(note),
        style="" if injected else "dim",
        mark_style="good" if injected else "dim",
    )


def why_not(candidate: "Candidate") -> str:
    """Say why a candidate was not injected."""
    if candidate.verdict == "below_threshold":
        return f"needs {percent(candidate.parts.get('threshold', 0.0))}"
    return {"over_budget": "no room left", "out_of_context": "another context"}.get(
        candidate.verdict, candidate.verdict
    )


def near_misses(candidates: "Sequence[Candidate]", count: int) -> "list[Candidate]":
    """Give the best of those that were considered for their topic and not injected."""
    left = (c for c in candidates if c.verdict != "injected" and c.verdict != "out_of_context")
    return [c for c, _ in zip(left, range(count), strict=False)]


@contextmanager
def progress(label: str) -> Generator[Progress | None]:
    """Show a bar on standard error while the block runs.

    Yields a function of (done, total); None without a label, and where nobody watches.
    """
    if not label or not sys.stderr.isatty():
        yield None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    columns = (TextColumn(label), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Bars(*columns, console=_console(sys.stderr), transient=True) as bars:
        task = bars.add_task(label, total=None)
        yield lambda done, total: bars.update(task, completed=done, total=total)
