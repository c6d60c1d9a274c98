"""What a benchmark says while it runs: on standard error, on a terminal only."""

import contextlib
import sys
from collections.abc import Callable, Iterator

from rich.console import Console

Say = Callable[[str], None]


@contextlib.contextmanager
def telling() -> Iterator[Say]:
    """Say on standard error what is being done, on a terminal only."""
    console = Console(file=sys.stderr)
    if not console.is_terminal:
        yield lambda _: None
        return
    with console.status("") as status:
        yield status.update
