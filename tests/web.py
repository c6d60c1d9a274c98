"""A server of ours in a thread, on a real socket: streams and hang-ups are what they are."""

import json
import logging
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from conftest import open_with
from fakes import FakeEmbedder
from upstreams import Upstream

from holdfast import Holdfast
from holdfast.server.app import create_app


@contextmanager
def running(app: Any) -> Iterator[str]:
    """Run an application; give its address."""
    with socket.socket(proto=socket.IPPROTO_TCP) as listening:  # or asyncio sets no NODELAY
        listening.bind(("127.0.0.1", 0))
        server = uvicorn.Server(
            uvicorn.Config(app, loop="asyncio", log_config=None, access_log=False)
        )
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            while not server.started:
                assert thread.is_alive(), "the server did not start"
                time.sleep(0.01)
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(20)


@contextmanager
def serving(path: Path, **settings: Any) -> Iterator[tuple[Holdfast, str]]:
    """Open a data directory with a fake embedder, and serve it."""
    with (
        open_with(FakeEmbedder(), path, **settings) as holdfast,
        running(create_app(holdfast)) as url,
    ):
        yield holdfast, url


CLIENTS = (
    "httpx", "httpcore", "httpx2", "httpcore2", "schemathesis", "hypothesis", "urllib3",
)  # fmt: skip
"""Loggers of this process that are not the server's."""


@dataclass
class GatewayDoor:
    """A gateway with an upstream behind it, and a key for it; tests add how they ask."""

    hf: Holdfast
    url: str
    up: Upstream
    key: str

    def sent(self) -> Any:
        """Give the body that came to the upstream last."""
        return json.loads(self.up.requests[-1]["body"])


class Kept(logging.Handler):
    """Keeps every record; what clients in this process say of themselves is not the server's."""

    def __init__(self) -> None:
        super().__init__(level=0)
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.name.partition(".")[0] not in CLIENTS:
            self.records.append(record)


@contextmanager
def watched(folder: Path) -> Iterator[tuple[Holdfast, str, list[logging.LogRecord]]]:
    """Serve a new data directory; give every record that is logged meanwhile, too."""
    kept, root = Kept(), logging.getLogger()
    before = root.level
    root.addHandler(kept)
    root.setLevel(logging.DEBUG)
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("XDG_CONFIG_HOME", str(folder / "config"))
            patch.delenv("HOLDFAST_DATA", raising=False)
            with serving(folder / "data", rate_limit=0) as (holdfast, url):
                yield holdfast, url, kept.records
    finally:
        root.removeHandler(kept)
        root.setLevel(before)
