"""The process behind ``holdfast serve``: one application, at a TCP port and at a Unix socket.

Who connects to the socket in the data directory can be nobody but its owner, and needs no
key: such connections are marked in their scope, which no TCP client can do. The engine is
opened and closed here; the routes are ``app``'s.
"""

import asyncio
import contextlib
import ctypes
import ipaddress
import os
import signal
import socket
import stat
import tempfile
import threading
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import uvicorn
from uvicorn.protocols.http.auto import AutoHTTPProtocol

from ..memory.errors import ConfigurationError, HoldfastError, StorageError
from ..memory.models import Key
from ..retrieval.engine import Holdfast
from ..retrieval.settings import Settings
from . import logs

if TYPE_CHECKING:
    from fastapi import FastAPI
    from starlette.types import ASGIApp, Receive, Scope, Send

SOCKET_NAME = "socket"
LONGEST_PATH = 100
"""Bytes of a socket's path that every system takes."""
LOOPBACK = "127.0.0.1"
AFTERTHOUGHT = 5.0
"""Seconds for requests that were cut off to note it."""
M_ARENA_MAX, ARENAS = -8, 2
"""A parameter of glibc's ``mallopt``, and its value: heaps that all threads share. One for
every few threads, as it has them, leaves about 10 MB unused at 100,000 statements."""
HEAD_SECONDS = 30.0
"""After which a connection is closed that has sent no whole head of a request since the last."""


@dataclass(frozen=True)
class Started:
    """Where a server answers."""

    url: str
    socket: Path
    wanted: str | None
    """The host that it was told to listen on, where it does not do so yet: there was no key."""


class Local:
    """Marks each connection as the data directory's owner's."""

    def __init__(self, app: "ASGIApp") -> None:
        from .service import LOCAL_SCOPE

        self._app = app
        self._mark = LOCAL_SCOPE

    async def __call__(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        """Pass a request on."""
        scope[self._mark] = True
        await self._app(scope, receive, send)


class Watched(AutoHTTPProtocol):
    """Uvicorn's end of a connection, closed when no request is in flight and none comes.

    Uvicorn itself gives up who is silent between requests, but not who goes on sending: half a
    head, or the rest of a body that was answered before it was read.
    """

    _seen: Any = None
    _watch: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to watch."""
        super().connection_made(transport)
        self._watch = asyncio.get_running_loop().call_later(HEAD_SECONDS, self._look, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """End."""
        if self._watch:
            self._watch.cancel()
        super().connection_lost(exc)

    def _look(self, transport: asyncio.BaseTransport) -> None:
        cycle = cast("Any", self).cycle  # the last request; uvicorn has it for either parser
        is_idle = cycle is None or cycle.response_complete
        if is_idle and cycle is self._seen:
            transport.close()
            return
        self._seen = cycle if is_idle else self
        self._watch = asyncio.get_running_loop().call_later(HEAD_SECONDS, self._look, transport)


class _Server(uvicorn.Server):
    """Uvicorn that leaves signals to us."""

    @contextmanager
    def capture_signals(self) -> Generator[None]:
        yield


class Doors:
    """An application behind several sockets, from its start to its end, in one event loop."""

    def __init__(
        self, app: "FastAPI", tcp: Sequence[socket.socket], local: socket.socket, *, grace: int
    ) -> None:
        """Take listening sockets.

        Args:
            app: with its lifespan.
            tcp: for whoever has a key.
            local: for the data directory's owner.
            grace: seconds that requests in flight get to finish.
        """
        self._app = app
        self._servers = [
            (_server(app, grace), [*tcp]),
            (_server(Local(app), grace), [local]),
        ]

    async def run(self, ready: Callable[[], None]) -> None:
        """Answer until ``stop``; call ``ready`` when the first request can come."""
        async with self._app.router.lifespan_context(self._app):
            running = [
                asyncio.create_task(server.serve(sockets=sockets))
                for server, sockets in self._servers
            ]
            while not all(server.started for server, _ in self._servers):
                if any(task.done() for task in running):
                    break
                await asyncio.sleep(0.005)
            else:
                ready()
            try:
                await asyncio.gather(*running)
            finally:
                left = {task for server, _ in self._servers for task in server.server_state.tasks}
                if left:
                    await asyncio.wait(left, timeout=AFTERTHOUGHT)

    def stop(self) -> None:
        """Finish what is in flight, and end; the second time: end. In the loop's thread."""
        for server, _ in self._servers:
            server.force_exit = server.should_exit
            server.should_exit = True


def _fastest_loop() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Give uvloop's loop, where it is installed (Chroma brings it along on most systems)."""
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


def _server(app: Any, grace: int) -> _Server:
    return _Server(
        uvicorn.Config(
            app, lifespan="off", ws="none", http=Watched, log_config=None, access_log=False,
            proxy_headers=False, server_header=False, timeout_graceful_shutdown=grace,
        )
    )  # fmt: skip


def serve(
    settings: Settings,
    *,
    log_json: bool,
    say_key: Callable[[Key, str], None],
    say_started: Callable[[Started], None],
) -> None:
    """Run the server until it is told to stop (SIGTERM, SIGINT).

    Args:
        settings: of the installation; also where to listen.
        log_json: write logs as JSON.
        say_key: is given the first key of an installation that has none.
        say_started: is told once requests are answered.

    Raises:
        StorageError: the data directory is owned by another process, or cannot be used.
        ConfigurationError: the address cannot be listened on.
    """
    logs.configure(as_json=log_json)
    with contextlib.suppress(AttributeError, OSError, TypeError):  # where it is not glibc
        ctypes.CDLL(None).mallopt(M_ARENA_MAX, ARENAS)
    with Holdfast.open(settings=_reachable(settings)) as holdfast:
        is_new = holdfast.access.is_empty()
        host = LOOPBACK if is_new and not is_loopback(settings.host) else settings.host
        with listening(host, settings.port) as tcp, local_socket(settings.data) as (local, path):
            if is_new:
                say_key(*holdfast.access.create("first", role="admin"))
            with ThreadPoolExecutor(1) as beside_imports:  # of the web framework, which take long
                loading = beside_imports.submit(holdfast.embedder.embed, ["ready"])
                from .app import create_app

                app = create_app(holdfast)
                loading.result()
            wanted = None if host == settings.host else settings.host
            doors = Doors(app, tcp, local, grace=settings.stop_timeout)
            started = Started(_url(host, tcp[0]), path, wanted)
            with asyncio.Runner(loop_factory=_fastest_loop()) as runner:
                runner.run(_until_signalled(doors, holdfast, started, say_started))


def _reachable(settings: Settings) -> Settings:
    """Let the address that it listens on be a Host under which it is known."""
    host = settings.host
    with contextlib.suppress(ValueError):  # a name
        if ipaddress.ip_address(host).is_unspecified:
            return settings
    host = f"[{host}]" if ":" in host else host
    return settings.model_copy(update={"allowed_hosts": [*settings.allowed_hosts, host]})


async def _until_signalled(
    doors: Doors, holdfast: Holdfast, started: Started, say: Callable[[Started], None]
) -> None:
    def stop() -> None:
        with contextlib.suppress(HoldfastError, OSError):
            holdfast.announce(None)  # who comes now waits for the directory
        doors.stop()

    def ready() -> None:
        holdfast.announce(started.socket)
        say(started)

    loop = asyncio.get_running_loop()
    for each in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(each, stop)
    await doors.run(ready)


def is_loopback(host: str) -> bool:
    """Tell whether a host is this machine alone."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


@contextmanager
def listening(host: str, port: int) -> Generator[list[socket.socket]]:
    """Give sockets that listen at every address of a host, on one port.

    Raises:
        ConfigurationError: one of them cannot be had.
    """
    with contextlib.ExitStack() as opened:
        sockets: list[socket.socket] = []
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
            for family, _, _, _, address in dict.fromkeys(found):
                port = port or (sockets[0].getsockname()[1] if sockets else 0)
                made = opened.enter_context(
                    socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)  # else no NODELAY
                )
                made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                if family == socket.AF_INET6:
                    made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                made.bind((address[0], port, *address[2:]))
                made.listen(2048)
                sockets.append(made)
        except (OSError, UnicodeError) as error:
            reason = getattr(error, "strerror", None) or "it is no host's name"
            raise ConfigurationError(
                f"cannot listen on {host} port {port} ({reason}); choose another with --host or "
                "--port (0: any free one)"
            ) from None
        yield sockets


def _url(host: str, tcp: socket.socket) -> str:
    return f"http://{f'[{host}]' if ':' in host else host}:{tcp.getsockname()[1]}"


@contextmanager
def local_socket(data: Path) -> Generator[tuple[socket.socket, Path]]:
    """Give a listening Unix socket that only the data directory's owner can connect to.

    It lies in the directory, or, where the path would be too long or the file system takes
    no sockets, in a private folder for temporary files; it goes when the block ends. What a
    process that was killed has left there is taken away: the caller owns the directory.
    """
    with contextlib.ExitStack() as kept:
        path = data.expanduser().absolute() / SOCKET_NAME
        made = None
        if len(os.fsencode(path)) <= LONGEST_PATH:
            with contextlib.suppress(OSError):
                made = _bound(path)
        if made is None:
            folder = kept.enter_context(tempfile.TemporaryDirectory(prefix="holdfast-"))
            path = Path(folder) / SOCKET_NAME
            try:
                made = _bound(path)
            except OSError as error:
                raise StorageError(
                    f"no socket can be made in {folder} ({error.strerror or error}); set TMPDIR "
                    "to a folder with a short path"
                ) from None
        kept.callback(path.unlink, missing_ok=True)
        with made:
            yield made, path


def _bound(path: Path) -> socket.socket:
    with contextlib.suppress(FileNotFoundError):
        if stat.S_ISSOCK(path.lstat().st_mode):
            path.unlink()
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        made.bind(str(path))
        path.chmod(0o600)  # before anybody can connect: that takes ``listen``
        made.listen(128)
    except OSError:
        made.close()
        raise
    return made


@contextmanager
def beside(holdfast: Holdfast, app: "FastAPI") -> Generator[Path]:
    """Answer at the data directory's socket, in a thread, while the block runs.

    For a process that owns the directory and speaks to its user in another way (``mcp``).
    """
    begun = threading.Event()
    state: list[tuple[asyncio.AbstractEventLoop, Doors]] = []
    with local_socket(holdfast.settings.data) as (local, path):

        async def run() -> None:
            doors = Doors(app, [], local, grace=holdfast.settings.stop_timeout)
            state.append((asyncio.get_running_loop(), doors))
            await doors.run(begun.set)

        with ThreadPoolExecutor(1, "holdfast-socket") as thread:
            running = thread.submit(asyncio.run, run())
            while not begun.wait(0.05) and not running.done():
                pass
            if running.done():
                running.result()
            holdfast.announce(path)
            try:
                yield path
            finally:
                with contextlib.suppress(HoldfastError, OSError):
                    holdfast.announce(None)
                for loop, doors in state:
                    with contextlib.suppress(RuntimeError):  # it has ended by itself
                        loop.call_soon_threadsafe(doors.stop)
