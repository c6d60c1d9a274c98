"""The process: ``holdfast serve``, started, spoken to, stopped and killed for real."""

import contextlib
import http.client
import json
import os
import re
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from conftest import open_with
from doors import served
from fakes import FakeEmbedder
from fastapi import FastAPI
from fastapi.responses import StreamingResponse

from holdfast import Holdfast, HoldfastError, Settings
from holdfast.memory.directory import DataDirectory
from holdfast.memory.errors import ConfigurationError, LockedError
from holdfast.memory.places import owner_of, owner_socket
from holdfast.server import logs, serve
from holdfast.server.app import create_app
from holdfast.server.client import Remote
from holdfast.server.serve import (
    SOCKET_NAME,
    Doors,
    beside,
    is_loopback,
    listening,
    local_socket,
)
from holdfast.server.wire import SOCKET, Wire

HOLDFAST = Path(sys.executable).with_name("holdfast")
PATIENCE = 60.0


@dataclass
class Process:
    """A server in a process of its own."""

    data: Path
    popen: subprocess.Popen[str]
    started: dict[str, Any] = field(default_factory=dict[str, Any])
    key: str | None = None

    @property
    def wire(self) -> Wire:
        return Wire(self.started["url"], key=self.key)

    @property
    def local(self) -> Wire:
        return Wire(SOCKET + self.started["socket"])

    def stop(self, how: signal.Signals = signal.SIGTERM) -> tuple[int, str]:
        """Signal it; give its status and its log."""
        self.popen.send_signal(how)
        _, err = self.popen.communicate(timeout=PATIENCE)
        return self.popen.returncode, err


@contextmanager
def started(data: Path, *words: str, **environment: str) -> Generator[Process]:
    """Start ``holdfast serve`` on any free port, and wait until it says where it listens."""
    popen = subprocess.Popen(
        [HOLDFAST, "serve", "--json", "--data", data, "--port", "0", *words],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, **environment},
    )  # fmt: skip
    process = Process(data, popen)
    try:
        assert popen.stdout is not None
        while not process.started:
            line = popen.stdout.readline()
            assert line, f"it ended: {popen.communicate()[1]}"
            said = json.loads(line)
            if "secret" in said:
                process.key = said["secret"]
            else:
                process.started = said
        yield process
    finally:
        if popen.poll() is None:
            popen.kill()
        popen.communicate()


def cli(*words: str | Path, **environment: str) -> tuple[int, str, str]:
    done = subprocess.run(
        [HOLDFAST, *words], capture_output=True, text=True, timeout=PATIENCE, check=False,
        env={**os.environ, **environment},
    )  # fmt: skip
    return done.returncode, done.stdout, done.stderr


def test_a_life_from_the_first_start_to_a_kill_and_another_start(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with started(data, "--host", "0.0.0.0", "--log-json") as server:
        # The first start: a key, and this machine alone.
        assert server.key is not None
        assert server.started["url"].startswith("http://127.0.0.1:")
        assert server.started["wanted"] == "0.0.0.0"
        path = Path(server.started["socket"])
        assert path == data / SOCKET_NAME == owner_socket(data)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert owner_of(data) == {"pid": server.popen.pid, "address": str(path)}

        # Both doors, and what each takes for a proof of who asks.
        assert server.wire.ask("GET", "/readyz").value == {"status": "ready"}
        Remote(server.wire).add("ada", "I never eat nuts.")
        assert Remote(server.local).subjects() == ["ada"]
        with pytest.raises(HoldfastError, match="no valid key"):
            Remote(Wire(server.started["url"])).subjects()
        for header in ("x-holdfast-tenant", "x-holdfast-local", "holdfast.local"):
            assert _status(server.started["url"], {header: "local"}) == 401

        # The command line finds the owner by itself; a second server does not start.
        assert "I never eat nuts." in cli("list", "--data", data, "--subject", "ada")[1]
        code, out, err = cli("serve", "--data", data, "--port", "0")
        assert (code, out) == (2, "")
        assert f"pid {server.popen.pid}" in err
        assert err.count("\n") == 1

        # It is killed in the middle; nothing of it stands in the way of the next.
        server.popen.send_signal(signal.SIGKILL)
        _, log = server.popen.communicate(timeout=PATIENCE)
    assert path.exists()
    lines = [json.loads(line) for line in log.splitlines()]
    assert {"request_id", "route", "status", "time", "level"} <= set(lines[0])
    assert not re.search(r"nuts|\bada\b|hf_live", log)
    assert "I never eat nuts." in cli("list", "--data", data, "--subject", "ada")[1]

    key = server.key
    with started(data) as server:
        assert server.key is None, "there is one already"
        assert server.started["wanted"] is None
        server.key = key
        assert [s.text for s in Remote(server.wire).statements("ada")] == ["I never eat nuts."]
        assert Remote(server.local).access.usage() != []
        assert Remote(server.local).retrieve("ada", "nuts?").evidence_id
        code, log = server.stop()
    assert code == 0, log
    assert not path.exists()
    assert owner_of(data) == {}
    with Holdfast.open(data) as holdfast:
        done = {each["operation"]: each["count"] for each in holdfast.access.usage()}
        assert done["list"] >= 1, "what was counted was written when it stopped"
        verified = holdfast.verify()
        assert verified.covered == verified.checked, "it signed when it stopped"


def _status(url: str, headers: dict[str, str]) -> int:
    connection = http.client.HTTPConnection(url.partition("://")[2])
    connection.request("GET", "/api/v1/subjects", headers=headers)
    status = connection.getresponse().status
    connection.close()
    return status


def test_a_port_that_is_taken_is_told_in_one_line(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        code, out, err = cli("serve", "--data", tmp_path / "data", "--port", port)
    assert (code, out) == (2, ""), "no key is made, or it would never be seen"
    assert re.fullmatch(
        rf"holdfast: cannot listen on 127.0.0.1 port {port} [^\n]*--port[^\n]*\n", err
    )
    with Holdfast.open(tmp_path / "data", brief=True) as holdfast:
        assert holdfast.access.is_empty()


def test_without_the_extra_the_command_says_what_to_install(tmp_path: Path) -> None:
    (tmp_path / "uvicorn.py").write_text("raise ModuleNotFoundError('no', name='uvicorn')")
    code, _, err = cli("serve", "--data", tmp_path / "data", PYTHONPATH=str(tmp_path))
    assert code == 2
    assert "pip install 'holdfast[server]'" in err
    assert err.count("\n") == 1


def test_help_imports_no_web_framework() -> None:
    code = (
        "import sys; from holdfast.server.cli import cli; cli.run(['--help']); "
        "cli.run(['serve', '--help']); cli.run(['keys', '--help']); print(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    heavy = "fastapi uvicorn starlette sqlalchemy numpy chromadb mcp litellm pydantic opentelemetry"
    assert not set(done.stdout.splitlines()[-1].split()) & set(heavy.split())


# In this process: what takes time, and what must not be


def slow(app: FastAPI) -> threading.Event:
    """Give an application routes that take long; the event tells that one has begun."""
    begun = threading.Event()

    @app.get("/slow")
    def _() -> dict[str, str]:
        begun.set()
        time.sleep(0.6)
        return {"done": "yes"}

    @app.get("/stream")
    def _() -> StreamingResponse:
        def parts() -> Iterator[bytes]:
            for number in range(6):
                begun.set()
                time.sleep(0.1)
                yield f"{number}\n".encode()

        return StreamingResponse(parts(), media_type="text/plain")

    @app.get("/endless")
    def _() -> StreamingResponse:
        async def parts() -> Any:
            import asyncio

            while True:
                begun.set()
                yield b"and on\n"
                await asyncio.sleep(0.05)

        return StreamingResponse(parts(), media_type="text/plain")

    return begun


@contextmanager
def stopped_while(fake: Holdfast, path: str, grace: int) -> Generator[tuple[Any, float]]:
    """Ask for a path, tell the server to stop meanwhile; give the answer and how long it took."""
    import asyncio

    app = create_app(fake)
    begun, ready = slow(app), threading.Event()
    with listening("127.0.0.1", 0) as tcp, local_socket(fake.settings.data) as (local, _):
        doors = Doors(app, tcp, local, grace=grace)
        loop = asyncio.new_event_loop()
        thread = threading.Thread(target=loop.run_until_complete, args=(doors.run(ready.set),))
        thread.start()
        assert ready.wait(PATIENCE)
        connection = http.client.HTTPConnection("127.0.0.1", tcp[0].getsockname()[1], timeout=30)
        connection.request("GET", path)
        assert begun.wait(PATIENCE)
        loop.call_soon_threadsafe(doors.stop)
        before = time.monotonic()
        try:
            response = connection.getresponse()
            answer: Any = (response.status, response.read())
        except http.client.HTTPException as error:
            answer = error
        thread.join(PATIENCE)
        assert not thread.is_alive()
        connection.close()
        loop.close()
        yield answer, time.monotonic() - before


@pytest.mark.parametrize(
    ("path", "whole"), [("/slow", b'{"done":"yes"}'), ("/stream", b"0\n1\n2\n3\n4\n5\n")]
)
def test_what_is_in_flight_is_finished(fake: Holdfast, path: str, whole: bytes) -> None:
    with stopped_while(fake, path, grace=20) as (answer, _):
        assert answer == (200, whole)


def test_a_stream_without_end_is_cut_off(fake: Holdfast) -> None:
    with stopped_while(fake, "/endless", grace=1) as (answer, seconds):
        assert isinstance(answer, http.client.IncompleteRead), "it does not end as if it were whole"
        assert seconds < 10


@contextmanager
def answering(fake: Holdfast) -> Generator[tuple[str, int]]:
    """Answer at a free port; give the address."""
    import asyncio

    ready = threading.Event()
    with listening("127.0.0.1", 0) as tcp, local_socket(fake.settings.data) as (local, _):
        doors = Doors(create_app(fake), tcp, local, grace=1)
        loop = asyncio.new_event_loop()
        thread = threading.Thread(target=loop.run_until_complete, args=(doors.run(ready.set),))
        thread.start()
        assert ready.wait(PATIENCE)
        try:
            yield tcp[0].getsockname()
        finally:
            loop.call_soon_threadsafe(doors.stop)
            thread.join(PATIENCE)
            loop.close()


def is_closed(sent: socket.socket) -> bool:
    """Tell whether the other side has closed a connection; what it said is passed over."""
    try:
        while sent.recv(65536):
            pass
    except TimeoutError:
        return False
    except ConnectionError:
        pass
    return True


@pytest.mark.parametrize(
    ("first", "then"),
    [
        ("", ""),
        ("GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-", "a"),
        ("POST /v1/messages HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999\r\n\r\n", " "),
        ("GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\nGET /he", "a"),
    ],
    ids=["nothing", "half a head", "a body that is answered already", "half a second head"],
)
def test_a_connection_on_which_no_request_comes_is_closed(
    fake: Holdfast, monkeypatch: pytest.MonkeyPatch, first: str, then: str
) -> None:
    monkeypatch.setattr(serve, "HEAD_SECONDS", 0.5)
    with answering(fake) as address, socket.create_connection(address, timeout=0.1) as sent:
        sent.sendall(first.encode())
        until = time.monotonic() + 5
        while not is_closed(sent) and time.monotonic() < until:
            with contextlib.suppress(ConnectionError):
                sent.sendall(then.encode())
        assert time.monotonic() < until


def test_a_connection_is_kept_as_long_as_requests_come_on_it(
    fake: Holdfast, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serve, "HEAD_SECONDS", 0.2)
    with answering(fake) as address:
        connection = http.client.HTTPConnection(*address)
        connection.connect()
        mine = connection.sock
        for _ in range(10):
            connection.request("GET", "/healthz")
            assert connection.getresponse().read()
            time.sleep(0.1)
        assert connection.sock is mine
        connection.close()


def test_the_name_that_it_listens_on_is_a_host_that_it_knows(tmp_path: Path) -> None:
    for host, known in (
        ("Values.Example", ["a", "Values.Example"]), ("10.0.0.1", ["a", "10.0.0.1"]),
        ("::1", ["a", "[::1]"]), ("0.0.0.0", ["a"]), ("::", ["a"]),
    ):  # fmt: skip
        settings = Settings(data=tmp_path, host=host, allowed_hosts=["a"])
        assert serve._reachable(settings).allowed_hosts == known


def test_sigterm_lets_a_request_finish_and_takes_no_new_one(tmp_path: Path) -> None:
    texts = [f"I keep the number {number} in mind for you." for number in range(600)]
    with started(tmp_path / "data") as server:
        told: list[Any] = []
        wire = server.wire
        asking = threading.Thread(
            target=lambda: told.append(_or_error(Remote(wire).add_many, "ada", texts, split=False))
        )
        asking.start()
        time.sleep(0.2)
        code, log = server.stop()
        asking.join(PATIENCE)
        assert code == 0, log
        (added,) = told
        assert isinstance(added, list), added
        assert len(added) == len(texts)
    with Holdfast.open(tmp_path / "data", brief=True) as holdfast:
        assert len(holdfast.statements("ada")) == len(texts)


def _or_error(call: Any, *values: Any, **more: Any) -> Any:
    try:
        return call(*values, **more)
    except HoldfastError as error:
        return error


def test_only_the_socket_makes_a_caller_local(fake: Holdfast) -> None:
    with served(fake) as at:
        local = Remote(Wire(f"{SOCKET}{at.socket}"))
        fake.of_tenant("other").add("cleo", "I keep cats.")
        assert local.of_tenant("other").subjects() == ["cleo"]
        assert local.subjects() == []
        for tenant in (None, "other"):
            with pytest.raises(HoldfastError, match="no valid key"):
                Remote(Wire(at.url, tenant=tenant)).subjects()
        assert Remote(Wire(at.url, key=at.key, tenant="other")).subjects() == []
        with pytest.raises(HoldfastError, match="belongs to one tenant"):
            Remote(Wire(at.url, key=at.key)).of_tenant("other")
        assert Remote(Wire(f"{SOCKET}{at.socket}", key=at.key)).subjects() == []
        with pytest.raises(HoldfastError, match="no valid key"):
            Remote(Wire(f"{SOCKET}{at.socket}", key="hf_live_wrong")).subjects()


def test_the_socket_is_its_owners_from_the_first_moment(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        with local_socket(tmp_path) as (_, path):
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
    finally:
        os.umask(before)
    assert not path.exists()


def test_a_path_that_is_too_long_has_its_socket_in_a_private_folder(tmp_path: Path) -> None:
    data = tmp_path / ("d" * 90) / "data"
    with open_with(FakeEmbedder(), data) as holdfast, served(holdfast) as at:
        assert data not in at.socket.parents
        assert len(os.fsencode(at.socket)) <= 100
        assert stat.S_IMODE(at.socket.parent.stat().st_mode) == 0o700
        assert owner_socket(data) == at.socket
        assert Remote(Wire(f"{SOCKET}{at.socket}")).subjects() == []
    assert not at.socket.parent.exists()


def test_a_file_that_is_no_socket_is_not_taken_away(tmp_path: Path) -> None:
    (tmp_path / SOCKET_NAME).write_text("mine")
    with local_socket(tmp_path) as (_, path):
        assert path.parent != tmp_path
    assert (tmp_path / SOCKET_NAME).read_text() == "mine"


def test_a_process_that_speaks_otherwise_has_a_socket_beside(fake: Holdfast) -> None:
    data = fake.settings.data
    with beside(fake, create_app(fake)) as path:
        assert owner_socket(data) == path
        Remote(Wire(f"{SOCKET}{path}")).add("ada", "I keep bees.")
    assert fake.subjects() == ["ada"]
    assert owner_of(data) == {"pid": os.getpid()}
    assert not path.exists()


def test_a_door_that_cannot_open_is_told_and_leaves_nothing(fake: Holdfast) -> None:
    app = create_app(fake)
    fake.access.create("x", role="admin")
    broken = create_app(fake)
    broken.router.lifespan_context = _raises  # type: ignore[assignment]
    with pytest.raises(RuntimeError), beside(fake, broken):
        pass
    with beside(fake, app) as path:
        assert path.exists()


def _raises(app: Any) -> Any:
    raise RuntimeError


def test_an_owner_that_can_be_spoken_to_is_hardly_waited_for(tmp_path: Path) -> None:
    owner, other = DataDirectory(tmp_path), DataDirectory(tmp_path)
    owner.acquire(timeout=0)
    owner.announce(tmp_path / "socket")
    began = time.monotonic()
    with pytest.raises(LockedError):
        other.acquire(timeout=30)
    assert time.monotonic() - began < 3
    owner.announce(None)
    assert owner.owner() == {"pid": os.getpid()}
    owner.release()
    other.acquire(timeout=0)
    other.release()


@pytest.mark.parametrize(
    ("host", "own"),
    [("127.0.0.1", True), ("127.9.9.9", True), ("::1", True), ("localhost", True),
     ("LOCALHOST", True), ("0.0.0.0", False), ("::", False), ("10.0.0.1", False),
     ("localhost.example", False), ("example.org", False)],
)  # fmt: skip
def test_loopback_is_known(host: str, own: bool) -> None:
    assert is_loopback(host) is own


def test_an_address_that_is_none_is_told() -> None:
    for host in ("no-such-host.invalid", "203.0.113.7", "a..b", "x" * 300):
        with pytest.raises(ConfigurationError, match="cannot listen on"), listening(host, 0):
            pass


def test_localhost_listens_at_one_port_on_all_its_addresses() -> None:
    with listening("localhost", 0) as sockets:
        assert len({each.getsockname()[1] for each in sockets}) == 1


def test_settings_say_where_to_listen(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="port"):
        Settings.load(tmp_path, port=70_000)
    assert Settings.load(tmp_path, host="::1", port=0).port == 0


# Logs


def _record(name: str, message: str, *values: object, error: BaseException | None = None) -> Any:
    import logging

    about = None if error is None else (type(error), error, error.__traceback__)
    return logging.LogRecord(name, logging.ERROR, "/x/module.py", 7, message, values, about)


def test_a_log_repeats_no_words_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HOLDFAST_DEBUG", raising=False)
    with pytest.raises(ValueError, match="nuts") as raised:
        int("I never eat nuts")
    error = raised.value
    for form in (logs.Lines(), logs.Objects()):
        said = form.format(_record("litellm", "asked: %s", "I never eat nuts", error=error))
        assert "nuts" not in said
        assert "ValueError in test_a_log" in said
        assert "module:7" in said
        own = form.format(_record("uvicorn.error", "Exception in ASGI application\n", error=error))
        assert "Exception in ASGI application" in own
        assert "nuts" not in own
        assert "\n" not in form.format(_record("holdfast.server", "one\ntwo\x1b[1m"))


def test_a_log_line_is_one_json_object() -> None:
    record = _record("holdfast.access", "%s done", "rq_1")
    record.request_id, record.status, record.prompt = "rq_1", 200, "secret"
    said = json.loads(logs.Objects().format(record))
    assert said["message"] == "rq_1 done"
    assert (said["request_id"], said["status"]) == ("rq_1", 200)
    assert "secret" not in str(said)
