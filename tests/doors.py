"""A server of ours in this process, at both of its doors; tests import it as ``doors``."""

import asyncio
import threading
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from holdfast import Holdfast
from holdfast.server.app import create_app
from holdfast.server.serve import Doors, listening, local_socket


@dataclass(frozen=True)
class Served:
    """Where a server answers."""

    holdfast: Holdfast
    url: str
    socket: Path
    key: str
    """An admin's."""


@contextmanager
def served(holdfast: Holdfast, *, grace: int = 5) -> Generator[Served]:
    """Serve an engine as ``holdfast serve`` does, while the block runs."""
    _, key = holdfast.access.create("tests", role="admin")
    begun = threading.Event()
    with (
        listening("127.0.0.1", 0) as tcp,
        local_socket(holdfast.settings.data) as (local, path),
    ):
        port = tcp[0].getsockname()[1]
        doors = Doors(create_app(holdfast), tcp, local, grace=grace)
        loop = asyncio.new_event_loop()
        thread = threading.Thread(target=loop.run_until_complete, args=(doors.run(begun.set),))
        thread.start()
        try:
            assert begun.wait(30), "the server did not start"
            holdfast.announce(path)
            yield Served(holdfast, f"http://127.0.0.1:{port}", path, key)
        finally:
            loop.call_soon_threadsafe(doors.stop)
            thread.join(30)
            loop.close()
            holdfast.announce(None)
