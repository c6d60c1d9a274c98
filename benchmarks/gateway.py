"""What the gateway adds to a call of a model: latency, throughput, memory, and its start.

    python -m benchmarks.gateway [--quick] [--litellm PYTHON]

A real ``holdfast serve`` stands in front of an upstream on loopback that answers at once, and
calls of that upstream alone are the baseline in the same run. ``--litellm`` names a Python
with ``litellm[proxy]``: its proxy is then measured in front of the same upstream. Run it where
nothing but what Holdfast and its tests need is installed: what notebooks bring along is found
and read at the start, and costs a second and 15 MB.
"""

import argparse
import asyncio
import contextlib
import http.client
import json
import multiprocessing
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from holdfast import Holdfast

from . import corpus
from .ledger import Row, show
from .product import Commit
from .telling import Say, telling

STATEMENTS = 500
CLIENTS = 32
MOST_BEYOND, LEAST_RATE, MOST_TAIL = 6.0, 100.0, 500.0  # ms, requests/s, ms
MOST_START, MOST_MEMORY, MOST_GROWTH = 3.0, 700.0, 0.10  # s, MB
MS = 1_000.0
PROMPT = "Can I eat the baklava they serve here?"
BODY = {"model": "echo", "messages": [{"role": "user", "content": PROMPT}]}
ANSWER = {
    "id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "echo",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "No."},
                 "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 11, "completion_tokens": 2, "total_tokens": 13},
}  # fmt: skip
CHUNK = {
    "id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "echo",
    "choices": [{"index": 0, "delta": {"content": "No."}, "finish_reason": None}],
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Place:
    """Where requests are sent, and with which headers."""

    url: str
    headers: dict[str, str]


# The upstream: as little as speaks HTTP, so that it is not what is measured


def upstream(ready: Any) -> None:
    """Answer every request at once; a stream in three events."""
    plain = json.dumps(ANSWER).encode()
    event = b"data: " + json.dumps(CHUNK).encode() + b"\n\n"

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                lengths = [
                    int(line.split(b":")[1])
                    for line in head.lower().split(b"\r\n")
                    if line.startswith(b"content-length")
                ]
                body = await reader.readexactly(sum(lengths))
                if b'"stream":true' in body.replace(b" ", b""):
                    writer.write(
                        b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n"
                        b"transfer-encoding: chunked\r\n\r\n"
                    )
                    for part in (event, event, b"data: [DONE]\n\n", b""):
                        writer.write(b"%x\r\n%b\r\n" % (len(part), part))
                else:
                    writer.write(
                        b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
                        b"content-length: %d\r\n\r\n%b" % (len(plain), plain)
                    )
                await writer.drain()
        writer.close()

    async def run() -> None:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        ready.put(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    asyncio.run(run())


@contextlib.contextmanager
def an_upstream() -> Iterator[Place]:
    """Run the upstream in a process of its own."""
    context = multiprocessing.get_context("spawn")
    ready = context.Queue()
    process = context.Process(target=upstream, args=(ready,), daemon=True)
    process.start()
    try:
        yield Place(f"http://127.0.0.1:{ready.get(timeout=30)}/v1", {})
    finally:
        process.terminate()
        process.join()


@contextlib.contextmanager
def a_server(folder: Path, to: Place) -> Iterator[tuple[subprocess.Popen[bytes], str, float]]:
    """Run ``holdfast serve``; give its process, its address, and seconds until it was ready."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = os.environ | {
        "HOLDFAST_DATA": str(folder), "HOLDFAST_UPSTREAM": to.url, "HOLDFAST_RATE_LIMIT": "0",
        "HOLDFAST_PORT": str(port),
    }  # fmt: skip
    command = [
        sys.executable,
        "-c",
        "from holdfast.server.cli import main; raise SystemExit(main())",
        "serve",
    ]
    began = time.perf_counter()
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        url = f"http://127.0.0.1:{port}"
        try:
            until_ready(f"{url}/readyz")
            yield process, url, time.perf_counter() - began
        finally:
            process.terminate()
            process.wait(60)


def until_ready(url: str, seconds: float = 120.0) -> None:
    """Wait until a GET answers 200."""
    parts = urlsplit(url)
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        with contextlib.suppress(OSError, http.client.HTTPException):
            connection = http.client.HTTPConnection(parts.netloc, timeout=10)
            connection.request("GET", parts.path)
            if connection.getresponse().status == 200:
                return
        time.sleep(0.02)
    raise TimeoutError(url)


# The client: the standard library's, the same for all


class Asker:
    """One client with one connection."""

    def __init__(self, place: Place) -> None:
        parts = urlsplit(place.url)
        self._connection = http.client.HTTPConnection(parts.netloc, timeout=60)
        self._path = f"{parts.path}/chat/completions"
        self._headers = {"content-type": "application/json", **place.headers}

    def __call__(self, *, stream: bool = False) -> float:
        """Make one call; give seconds until its first byte was there, and read the rest.

        Raises:
            RuntimeError: it was not answered with 200.
        """
        body = json.dumps(BODY | {"stream": True} if stream else BODY)
        began = time.perf_counter()
        self._connection.request("POST", self._path, body, self._headers)
        answer = self._connection.getresponse()
        answer.read(1)
        taken = time.perf_counter() - began
        answer.read()
        if answer.status != 200:
            raise RuntimeError(f"answered {answer.status}")
        return taken


def in_turn(places: Sequence[Place], commit: Commit, count: int, *, stream: bool) -> list[float]:
    """Ask each place in turn, and commit one row; give the median seconds of each.

    What stands between two calls of one place cools the processor's caches for it.
    """
    askers = [Asker(place) for place in places]
    taken: list[list[float]] = [[] for _ in range(len(places) + 1)]
    for number in range(count + 20):
        for row, asker in enumerate(askers):
            seconds = asker(stream=stream)
            if number >= 20:
                taken[row].append(seconds)
        began = time.perf_counter()
        commit()
        taken[-1].append(time.perf_counter() - began)
    return [statistics.median(each) for each in taken]


def at_once(place: Place, count: int) -> tuple[list[float], float, int]:
    """Ask with many clients at once; give seconds of each, of all, and how many failed."""
    taken: list[float] = []
    failed = [0]
    lock = threading.Lock()

    def work() -> None:
        asker = Asker(place)
        for _ in range(count // CLIENTS):
            try:
                seconds = asker()
            except (RuntimeError, OSError, http.client.HTTPException):
                with lock:
                    failed[0] += 1
                asker = Asker(place)
                continue
            with lock:
                taken.append(seconds)

    threads = [threading.Thread(target=work) for _ in range(CLIENTS)]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return taken, time.perf_counter() - began, failed[0]


def memory(process: subprocess.Popen[bytes]) -> float:
    """Give the resident memory of a process, in MB."""
    text = Path(f"/proc/{process.pid}/status").read_text()
    line = next(line for line in text.splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1000


# What is measured


def prepared(folder: Path, statements: int) -> Place:
    """Fill a data directory; give how to ask for its first subject."""
    with Holdfast.open(folder) as holdfast:
        for begin in range(0, statements, STATEMENTS):
            texts = corpus.texts(min(STATEMENTS, statements - begin), begin)
            holdfast.add_many(f"person {begin // STATEMENTS}", texts, split=False)
        _, key = holdfast.access.create("a benchmark", role="app")
    return Place("", {"x-holdfast-key": key, "x-holdfast-subject": "person 0"})


def latency(places: Sequence[Place], folder: Path, count: int) -> list[Row]:
    """Compare one client's calls with those of the upstream alone, gateway by gateway."""
    commit = Commit(folder)
    upstream, ours, *others = places
    rows: list[Row] = []
    for stream, what, commits in ((False, "whole answer", 2), (True, "first streamed byte", 1)):
        direct, taken, bare = in_turn([upstream, ours], commit, count, stream=stream)
        allowed = (commits * bare) * MS + MOST_BEYOND
        added = (taken - direct) * MS
        figure = (
            f"{taken * MS:.1f} ms = upstream {direct * MS:.1f} + {added:.1f} "
            f"(a commit: {bare * MS:.2f})"
        )
        bar = f"≤ {commits} commits + {MOST_BEYOND:.0f} = {allowed:.1f} ms"
        rows.append(Row(f"one client, p50: {what}", figure, bar, added <= allowed))
        for other in others:
            direct, taken, _ = in_turn([upstream, other], commit, count, stream=stream)
            figure = f"{taken * MS:.1f} ms = upstream + {(taken - direct) * MS:.1f}"
            rows.append(Row("… LiteLLM's proxy", figure))
    commit.close()
    return rows


def throughput(places: Sequence[Place], count: int) -> list[Row]:
    """Ask with many clients at once."""
    rows: list[Row] = []
    for number, place in enumerate(places):
        taken, seconds, failed = at_once(place, count if number == 0 else count // 5)
        tail = statistics.quantiles(taken, n=100)[98] * MS
        rate = len(taken) / seconds
        figure = (
            f"{rate:,.0f} requests/s, p50 {statistics.median(taken) * MS:.0f}, p99 {tail:.0f} ms"
        )
        if number:
            rows.append(Row("… LiteLLM's proxy", figure))
            continue
        met = rate >= LEAST_RATE and tail <= MOST_TAIL and not failed
        bar = f"≥ {LEAST_RATE:.0f}/s, p99 ≤ {MOST_TAIL:.0f} ms, none failed"
        what = f"{CLIENTS} clients, {count:,} requests"
        rows.append(Row(what, f"{figure}, {failed} failed", bar, met))
    return rows


def growth(process: subprocess.Popen[bytes], place: Place, count: int) -> Row:
    """Compare memory after a tenth of many requests with that after all of them."""
    at_once(place, count // 10)
    before = memory(process)
    at_once(place, count - count // 10)
    after = memory(process)
    grown = after / before - 1
    figure = f"{before:.0f} → {after:.0f} MB ({grown:+.1%})"
    bar = f"within {MOST_GROWTH:.0%}"
    return Row(f"memory over {count:,} requests", figure, bar, grown <= MOST_GROWTH)


def size(folder: Path, to: Place, statements: int, say: Say) -> list[Row]:
    """Measure the start, and memory with many statements and litellm loaded."""
    say(f"{statements:,} statements")
    known = prepared(folder, statements)
    routes = {"translated": {"protocol": "anthropic", "url": to.url.removesuffix("/v1")}}
    os.environ["HOLDFAST_ROUTES"] = json.dumps(routes)
    with a_server(folder, to) as (process, url, seconds):
        body = json.dumps(BODY | {"model": "translated"})
        for number in range(0, statements // STATEMENTS, 7):
            headers = known.headers | {"x-holdfast-subject": f"person {number}"}
            Asker(Place(f"{url}/v1", headers))()
        connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=60)
        connection.request("POST", "/v1/chat/completions", body, known.headers)
        connection.getresponse().read()  # an answer that it cannot translate: litellm is loaded
        used = memory(process)
    del os.environ["HOLDFAST_ROUTES"]
    return [
        Row("start to ready", f"{seconds:.2f} s", f"≤ {MOST_START:.0f} s", seconds <= MOST_START),
        Row(
            f"memory: {statements:,} statements, litellm loaded", f"{used:.0f} MB",
            f"≤ {MOST_MEMORY:.0f} MB", used <= MOST_MEMORY,
        ),
    ]  # fmt: skip


@contextlib.contextmanager
def a_litellm(python: str | None, folder: Path, to: Place) -> Iterator[list[Place]]:
    """Run LiteLLM's own proxy in front of the upstream, where there is one."""
    if python is None:
        yield []
        return
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    config = folder / "litellm.yaml"
    config.write_text(
        "model_list: [{model_name: echo, litellm_params: {model: openai/echo, "
        f"api_base: '{to.url}', api_key: x}}}}]\n"
        "general_settings: {master_key: sk-1}\n"
    )
    command = [str(Path(python).with_name("litellm")), "--config", str(config), "--port", str(port)]
    environment = os.environ | {"LITELLM_LOCAL_MODEL_COST_MAP": "True"}
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        try:
            until_ready(f"http://127.0.0.1:{port}/health/readiness")
            yield [Place(f"http://127.0.0.1:{port}/v1", {"authorization": "Bearer sk-1"})]
        finally:
            process.terminate()
            process.wait(30)


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true", help="a tenth of everything")
    parser.add_argument("--litellm", metavar="PYTHON", help="a Python with litellm[proxy]")
    asked = parser.parse_args()
    scale = 10 if asked.quick else 1
    with telling() as say, tempfile.TemporaryDirectory() as text, an_upstream() as to:
        folder = Path(text)
        os.environ["XDG_CONFIG_HOME"] = str(folder / "config")
        known = prepared(folder / "data", STATEMENTS)
        rows: list[Row] = []
        with a_server(folder / "data", to) as (process, url, _):
            ours = Place(f"{url}/v1", known.headers)
            with a_litellm(asked.litellm, folder, to) as others:
                say("one client")
                rows += latency([to, ours, *others], folder, 500 // scale)
                say(f"{CLIENTS} clients")
                rows += throughput([ours, *others], 10_000 // scale)
            say("memory")
            rows.append(growth(process, ours, 20_000 // scale))
        rows += size(folder / "large", to, 100_000 // scale, say)
    show(f"The gateway. {STATEMENTS} statements to a subject, {os.cpu_count()} cores", rows)


if __name__ == "__main__":
    main()
