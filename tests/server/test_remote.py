"""Every command does the same on a directory, at a URL, and through its owner's socket."""

import inspect
import io
import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from datetime import UTC, date, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from doors import Served, served

from holdfast import Holdfast, HoldfastError, InvalidInputError, NotFoundError
from holdfast.memory.errors import ErasedError, ForkError, LockedError, StorageError
from holdfast.memory.places import owner_socket
from holdfast.retrieval.access import Access
from holdfast.retrieval.audit import Audit
from holdfast.server.cli import cli
from holdfast.server.client import Remote
from holdfast.server.client_admin import PAGE, RemoteAccess, RemoteAudit
from holdfast.server.problems import RefusedError
from holdfast.server.wire import Wire, segment

NUTS = "I never eat nuts: one crumb of cashew and I'm in hospital."
Ran = tuple[int, str, str]


class Standard(io.TextIOWrapper):
    """Standard input that holds given bytes."""

    def __init__(self, content: bytes) -> None:
        super().__init__(io.BytesIO(content), encoding="utf-8")


def run(*words: object, stdin: str = "") -> Ran:
    """Run one command line; give status, standard output and standard error."""
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patched, redirect_stdout(out), redirect_stderr(err):
        patched.setattr(sys, "stdin", Standard(stdin.encode()))
        status = cli.run([str(word) for word in words])
    return status, out.getvalue(), err.getvalue()


# The three ways


def story(folder: Path) -> list[tuple[list[str], Ran]]:
    """Run every command, one after the other; give what each said."""
    told: list[tuple[list[str], Ran]] = []

    def say(*words: object, stdin: str = "") -> str:
        """Run a command for people and again for programs; give the JSON of the second."""
        given = [str(word) for word in words]
        told.append((given, run(*given, stdin=stdin)))
        return told[-1][1][1]

    def ask(*words: object, stdin: str = "") -> Any:
        return json.loads(say(*words, "--json", stdin=stdin))

    nuts = ask("add", NUTS, "--no-split", "--kind", "boundary", "--valid-from", "2026-01-01")
    nuts = nuts["statements"][0]["id"]
    say("add", NUTS, "--no-split")
    say("add", "I never eat nuts: one crumb of almond and I'm in hospital.", "--no-split")
    say("add", "- I keep bees.\n- Be blunt with me.")
    say("add", "--lines", "-", stdin="I collect maps.\n\nI run on Sundays – in Žižkov.\n")
    say("add", "Wear a tie.", "--context", "work", "--context", "court", "--strength", "prefer")
    say("add", "x" * 2001, "--no-split")
    say("add", "", "--json")
    say("add", "y", "--valid-from", "tomorrow")
    say("decide", "--situation", "Dinner", "--choice", "home", "--reason", "safe", "--weighed",
        nuts)  # fmt: skip
    say("decide", "--situation", "a", "--choice", "b", "--reason", "c", "--weighed", "st_none")
    found = ask("query", "May I eat cashew nuts?", "--threshold", "0")
    say("query", "May I eat cashew nuts?", "--no-record", "--all", "--limit", "1")
    say("query", "maps?", "--context", "home", "--budget", "20", "--as-of", "2026-02-01")
    say("query", "anything", "--subject", "a/b%2F? #ü", "--no-record")
    say("query", "nuts?", "--subject", "acme", "--subject", "ada", "--threshold", "0.01")
    say("query", "nuts?", "--limit", "100000000000")
    say("list")
    say("list", "--json")
    say("list", "--as-of", "2026-02-01")
    say("list", "--known-at", "2020-01-01")
    say("list", "--as-of", "soon")
    say("add", "Slashes count.", "--subject", "a/b%2F? #ü")
    say("list", "--subject", "a/b%2F? #ü")
    say("revise", nuts, "I eat no nuts at all.", "--reason", "simpler")
    say("revise", nuts, "--strength", "must", "--valid-to", "2030-01-01", "--json")
    say("revise", "st_none", "x")
    say("history", nuts)
    say("history", nuts, "--json")
    say("history", "st_none")
    bees = ask("list")[2]["id"]
    say("retire", bees, "--reason", "they flew")
    say("retire", bees)
    say("list", "--all")
    evidence = found["evidence_id"]
    say("audit", "list")
    say("audit", "list", "--events", "--limit", "7")
    say("audit", "list", "--type", "statement.put", "--json", "--subject", "ada")
    say("audit", "show", evidence)
    say("audit", "show", evidence, "--json")
    events = ask("audit", "list", "--events")
    say("audit", "show", events[-1]["id"])
    say("audit", "show", "ev_none")
    say("audit", "replay", evidence)
    say("audit", "replay", evidence, "--json", "--prompt", "May I eat cashew nuts?")
    say("audit", "replay", evidence, "--without", nuts)
    say("audit", "replay", evidence, "--as-of", "2026-03-01", "--json")
    say("audit", "checkpoint", "--out", folder / "note", "--key-out", folder / "key")
    say("audit", "verify")
    say("audit", "verify", "--json", "--checkpoint", folder / "note")
    say("audit", "checkpoint", "--since", folder / "note", "--json")
    say("audit", "bundle", evidence, "--out", folder / "bundle", "--disclose-all")
    say("audit", "bundle", evidence, "--disclose", "status", "--since", folder / "note")
    say("audit", "bundle", evidence, "--disclose", "nonsense")
    say("verify", folder / "bundle", "--key", folder / "key")
    say("audit", "publish", folder / "log")
    say("audit", "start-over")
    say("audit", "checkpoint", "--start-over", "a test", "--json")
    say("export", "--out", folder / "export")
    say("export", "--subject", "nobody")
    say("import", folder / "export")
    say("import", folder / "export", "--subject", "bo")
    say("import", "-", stdin='{"format": "other"}')
    say("import", "-", stdin="no JSON")
    say("erase", "--yes", "--reason", "asked for")
    say("list")
    say("audit", "show", evidence)
    say("audit", "replay", evidence)
    say("import", folder / "export", "--json")
    say("list", "--json")
    say("doctor", "--check")
    say("doctor", "--json")
    say("audit", "rotate-key", "--json")
    return told


def plain(told: str, folder: Path) -> str:
    """Put names for what differs between two runs of anything: ids, times, hashes."""
    told = told.replace(str(folder), "FOLDER")
    known: dict[str, str] = {}
    patterns = {
        "T": r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d(?:\.\d+)?(?:\+00:00)?",
        "ORIGIN": r"holdfast/[0-9a-f]{32}",
        "HASH": r"\b[0-9a-f]{64}\b|\b[0-9a-f]{32}\b",
        "ROOT": r"[A-Za-z0-9+/]{43}=|[A-Za-z0-9+/]{86}==|[A-Za-z0-9+/]{90,}={0,2}",
        "MILLISECONDS": r'(?<=time\\":)\d{13}',
        "FIRST": r'(?<=first_used_at": )\d+',
        "KEY": r'(?<=key: )[0-9a-z]{12}\b|(?<="key": ")[0-9a-z]{12}(?=")',
        "HINT": r"(?<=ORIGIN\+)[0-9a-f]{8}\+\S+",
    }
    told = re.sub(
        r"\b(st|ev|pr)_[0-9a-z]{10,}",
        lambda m: known.setdefault(m[0], f"{m[1]}_{len(known)}"),
        told,
    )
    for name, pattern in patterns.items():
        told = re.sub(pattern, name, told)
    return told


@contextmanager
def way(name: str, folder: Path) -> Generator[pytest.MonkeyPatch]:
    """Have commands work on a new installation: itself, at a URL, or through its socket."""
    folder.mkdir()
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("XDG_CONFIG_HOME", str(folder / "config"))
        patched.setenv("HOLDFAST_DATA", str(folder / "data"))
        patched.setenv("HOLDFAST_SUBJECT", "ada")
        patched.setenv("COLUMNS", "80")
        patched.delenv("HOLDFAST_DEBUG", raising=False)
        if name == "directory":
            with Holdfast.open(folder / "data") as holdfast:
                holdfast.access.create("tests", role="admin")
            yield patched
            return
        with Holdfast.open(folder / "data") as holdfast, served(holdfast) as at:
            if name == "url":
                patched.setenv("HOLDFAST_DATA", str(folder / "elsewhere"))
                patched.setenv("HOLDFAST_URL", at.url)
                patched.setenv("HOLDFAST_KEY", at.key)
            yield patched


ELSEWHERE = (["audit", "publish"], ["audit", "rotate-key"])
"""What is done where the data are: at a URL it is refused."""


@pytest.fixture(scope="module")
def on_the_directory(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[list[str], Ran]]:
    """What the commands say where no server runs."""
    folder = tmp_path_factory.mktemp("way") / "of"
    with way("directory", folder):
        return [(words, _told(ran, folder)) for words, ran in story(folder)]


@pytest.mark.parametrize("name", ["url", "socket"])
def test_every_command_says_the_same_as_on_the_directory(
    name: str, tmp_path: Path, on_the_directory: list[tuple[list[str], Ran]]
) -> None:
    folder = tmp_path / "of"
    with way(name, folder):
        told = [_told(ran, folder) for _, ran in story(folder)]
    assert len(told) == len(on_the_directory) > 70
    differing: list[tuple[str, Ran, Ran]] = []
    for (words, here), there in zip(on_the_directory, told, strict=True):
        if name == "url" and words[:2] in ELSEWHERE:
            assert there[:2] == (2, ""), words
        elif there != here:
            differing.append((" ".join(words), here, there))
    assert not differing


def _told(ran: Ran, folder: Path) -> Ran:
    """Give what must be the same; a server checks the sizes of numbers itself."""
    complaint = re.sub("(?:body.limit|limit is).*", "LIMIT", plain(ran[2], folder))
    return ran[0], plain(ran[1], folder), complaint


# What a server says, and what is no server


@pytest.fixture
def at(fake: Holdfast) -> Iterator[Served]:
    """A server with a fake embedder."""
    with served(fake) as place:
        yield place


@pytest.fixture
def remote(at: Served) -> Remote:
    return Remote(Wire(at.url, key=at.key))


@contextmanager
def answering(status: int, body: bytes, **headers: str) -> Generator[str]:
    """A server of somebody else's that always answers the same; give its URL."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name.replace("_", "-"), value)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def complaint(url: str, *words: str) -> str:
    """Ask a server that cannot be asked; give the one line that says so."""
    status, out, err = run(*(words or ("list",)), "--url", url)
    assert (status, out) == (2, "")
    assert re.fullmatch(r"holdfast: [^\n]+\n", err), err
    return err


IN_PROCESS = "read"
"""What can be given to the engine alone: a function."""
METHODS: dict[type, type] = {Remote: Holdfast, RemoteAudit: Audit, RemoteAccess: Access}


@pytest.mark.parametrize("kind", METHODS, ids=lambda kind: kind.__name__)
def test_a_remote_takes_what_the_engine_takes(kind: type) -> None:
    engine = METHODS[kind]
    public = [name for name in vars(kind) if not name.startswith("_")]
    assert len(public) >= 5
    for name in public:
        ours, theirs = getattr(kind, name), getattr(engine, name)
        if isinstance(ours, property):
            assert isinstance(theirs, property), name
            continue
        given, wanted = (inspect.signature(each).parameters for each in (ours, theirs))
        assert list(given) == [each for each in wanted if each != IN_PROCESS], name
        for parameter in given:
            assert given[parameter].default == wanted[parameter].default, (name, parameter)
            assert given[parameter].kind == wanted[parameter].kind, (name, parameter)


def test_values_come_back_as_they_are(at: Served, remote: Remote) -> None:
    engine = at.holdfast
    added = remote.add("ada", NUTS, valid_from=datetime(2026, 1, 1, tzinfo=UTC), contexts=["a"])
    again = remote.add("ada", NUTS)
    assert again.existing == [*again] == [*added] == engine.statements("ada")
    decision = remote.decide("ada", situation="s", choice="c", reason="r", weighed=[added[0].id])
    assert [decision] == remote.decisions("ada") == engine.decisions("ada")
    found = remote.retrieve("ada", "nuts?", threshold=0)
    assert found.evidence_id
    assert remote.explain(found.evidence_id) == engine.explain(found.evidence_id)
    assert remote.audit.entry(found.evidence_id) == engine.audit.entry(found.evidence_id)
    assert remote.evidence("ada") == engine.evidence("ada")
    assert remote.audit.events(limit=9) == engine.audit.events(limit=9)
    assert remote.retrieve(["ada", "bo"], "nuts?", record=False) == engine.retrieve(
        ["ada", "bo"], "nuts?", record=False
    )
    assert remote.replay(found.evidence_id) == engine.replay(found.evidence_id)
    signed = remote.audit.checkpoint()
    assert signed == engine.audit.last_checkpoint()
    assert remote.audit.verifier_key == engine.audit.verifier_key
    assert remote.verify(checkpoint=signed.note) == engine.verify(checkpoint=signed.note)
    (proposal,) = remote.propose("ada", "Likes trains.", source="model:x")
    assert [proposal] == remote.proposals("ada") == engine.proposals("ada")
    assert remote.reject(proposal.id) == engine.proposals("ada", status="rejected")[0]
    (other,) = remote.propose("ada", "Likes boats.", source="model:x", split=False)
    confirmed = remote.confirm(other.id)
    assert confirmed == engine.statement(confirmed.id)
    assert remote.subjects() == engine.subjects() == ["ada"]
    revised = remote.revise(added[0].id, strength="must", valid_to=date(2030, 1, 1))
    assert remote.history(added[0].id) == engine.history(added[0].id)
    assert remote.statement(added[0].id) == revised == engine.statement(added[0].id)
    assert remote.revise(added[0].id, valid_to=None).valid_to is None
    retired = remote.retire(added[0].id, reason="gone")
    assert (retired, retired.end_reason) == (engine.statement(added[0].id), "gone")
    assert remote.doctor(mend=False) == engine.doctor(mend=False)
    document = remote.export("ada")
    assert remote.load("ada", document).versions == 0
    assert remote.erase("ada", reason="asked").statements


def test_long_lists_come_whole(at: Served, remote: Remote) -> None:
    texts = [f"I keep the number {number}." for number in range(PAGE + 3)]
    at.holdfast.add_many("ada", texts, split=False)
    assert remote.statements("ada") == at.holdfast.statements("ada")
    with pytest.raises(InvalidInputError, match="at most 1000 events"):
        remote.audit.events(limit=PAGE + 1)


def test_errors_of_the_engine_are_raised_again(at: Served, remote: Remote) -> None:
    with pytest.raises(NotFoundError, match="holdfast list"):
        remote.history("st_none")
    with pytest.raises(InvalidInputError, match="ISO 8601"):
        remote.add("ada", "x", valid_from="soon")
    remote.add("ada", NUTS)
    found = remote.retrieve("ada", "nuts?")
    remote.erase("ada")
    with pytest.raises(ErasedError):
        remote.replay(str(found.evidence_id))
    with pytest.raises(InvalidInputError, match="no retrieval"):
        remote.explain(str(found.evidence_id))


@pytest.mark.parametrize("kind", [ForkError, LockedError, StorageError, NotFoundError, ErasedError])
def test_an_error_keeps_its_class_and_its_words(kind: type[HoldfastError]) -> None:
    body = {"status": 503, "detail": "so it is", "error": kind.__name__}
    with (
        answering(503, json.dumps(body).encode(), content_type="application/problem+json") as url,
        pytest.raises(kind, match=r"^so it is$") as raised,
    ):
        Wire(url).ask("GET", "/x")
    assert type(raised.value) is kind


def test_a_wrong_key_or_none_is_told(at: Served) -> None:
    for key in ("hf_live_nonsense", "x", at.key[:-1]):
        assert "no valid key" in complaint(at.url, "list", "--key", key)
    assert "no valid key" in complaint(at.url)
    assert "is no key" in complaint(at.url, "list", "--key", "a\nb")
    with pytest.raises(RefusedError) as raised:
        Remote(Wire(at.url)).subjects()
    assert raised.value.status == 401


def test_the_key_is_taken_from_the_environment(at: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOLDFAST_URL", at.url + "/")
    monkeypatch.setenv("HOLDFAST_KEY", at.key)
    assert run("add", "I keep bees.", "--subject", "bo")[0] == 0
    assert at.holdfast.statements("bo")[0].text == "I keep bees."
    assert run("list", "--key", "wrong")[0] == 2, "the option goes before the environment"


def test_a_named_directory_goes_before_the_url_of_the_environment(
    at: Served, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOLDFAST_URL", at.url)
    assert run("add", "Here.", "--subject", "bo", "--data", tmp_path / "other")[0] == 0
    assert at.holdfast.statements("bo") == []
    assert "two places" in run("list", "--data", tmp_path, "--url", at.url)[2]


@pytest.mark.parametrize(
    "url",
    ["", "localhost:8790", "ftp://x", "http://", "http://x:y", "http://a b", "http://[", "unix:",
     "http://me:secret@x", "http://x/?key=secret", "http://x/#secret", "http://ü"],
)  # fmt: skip
def test_what_is_no_url_is_told_without_its_secrets(url: str) -> None:
    with pytest.raises(InvalidInputError, match="URL") as raised:
        Wire(url)
    assert "secret" not in str(raised.value)


def test_a_server_that_is_not_there_is_waited_for_a_little(at: Served) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and does not listen
        port = taken.getsockname()[1]
        began = time.monotonic()
        told = complaint(f"http://127.0.0.1:{port}")
        assert "Connection refused" in told
        assert "holdfast serve" in told
        assert 1.5 < time.monotonic() - began < 10
    assert "no server answers" in complaint("unix:/nowhere/at/all")
    assert "no server answers" in complaint("http://no-such-host.invalid")


def test_a_server_that_begins_meanwhile_is_reached(fake: Holdfast) -> None:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    told: list[object] = []
    thread = threading.Thread(
        target=lambda: told.append(Wire(f"http://127.0.0.1:{port}", patience=10).answers())
    )
    thread.start()
    time.sleep(0.3)
    with socket.create_server(("127.0.0.1", port)):
        thread.join()
    assert told == [True]


def test_what_is_no_holdfast_is_told(at: Served) -> None:
    page = b"<html><body>502 Bad Gateway: hello</body></html>"
    with answering(502, page, content_type="text/html; charset=utf-8") as url:
        told = complaint(url)
        assert "502, text/html" in told
        assert "proxy" in told
        assert "hello" not in told
    with answering(200, page, content_type="text/html") as url:
        assert "no Holdfast server" in complaint(url)
    with answering(200, b"{", content_type="application/json") as url:
        assert "no Holdfast server" in complaint(url)
    with answering(404, b'{"detail":"Not Found"}', content_type="application/json") as url:
        assert "no Holdfast server" in complaint(url)
    with answering(200, b'[{"id": 1}]', content_type="application/json") as url:
        assert "of one version" in complaint(url)
    with answering(301, b"", location="https://else.where/secret?x=1") as url:
        told = complaint(url)
        assert "https://else.where;" in told.replace(" (status 301)", "")
        assert "secret" not in told
    assert "does not know this request" in complaint(at.url + "/elsewhere")


def test_a_server_that_breaks_off_is_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"

        def hang_up() -> None:
            for answer in (b"", b"SSH-2.0-OpenSSH\r\n"):
                connection, _ = listening.accept()
                connection.recv(10_000)
                connection.sendall(answer)
                connection.close()

        thread = threading.Thread(target=hang_up)
        thread.start()
        for _ in range(2):
            assert "broke off" in complaint(url)
        thread.join()
        with pytest.raises(HoldfastError, match="did not answer within"):
            Wire(url, timeout=0.2).ask("GET", "/x")


def test_no_name_becomes_another_ones_path() -> None:
    assert segment("a/b%2F?#ü ..") == "a%2Fb%252F%3F%23%C3%BC%20.."
    with pytest.raises(InvalidInputError):
        segment("a\udc80")


def test_the_socket_of_somebody_else_is_not_spoken_to(
    at: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = at.holdfast.settings.data
    assert owner_socket(data) == at.socket
    monkeypatch.setattr(Path, "lstat", _foreign(Path.lstat))
    assert owner_socket(data) is None


def _foreign(lstat: Any) -> Any:
    def changed(path: Path) -> os.stat_result:
        found = list(lstat(path))
        found[4] += 1
        return os.stat_result(found)

    return changed


def test_a_stale_socket_is_no_obstacle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = tmp_path / "data"
    monkeypatch.setenv("HOLDFAST_DATA", str(data))
    assert run("add", "I keep bees.", "--subject", "bo")[0] == 0
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(data / "socket"))
    (data / "owner.json").write_text(json.dumps({"pid": 1, "address": str(data / "socket")}))
    status, out, _ = run("list", "--subject", "bo")
    assert status == 0
    assert "I keep bees." in out
    for wrong in (
        "",
        "[]",
        '{"address": 7}',
        '{"address": "/etc/passwd"}',
        '{"address": "\\u0000"}',
    ):
        (data / "owner.json").write_text(wrong)
        assert owner_socket(data) is None


def test_asking_a_server_does_not_import_the_engine() -> None:
    code = (
        "import sys; from holdfast.server.client import Remote; from holdfast.server.wire import "
        "Wire; Remote(Wire('http://x')); print(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    heavy = {
        "numpy",
        "sqlalchemy",
        "pydantic",
        "chromadb",
        "fastapi",
        "uvicorn",
        "httpx",
        "asyncio",
    }
    assert not set(done.stdout.split()) & heavy


def test_a_server_that_has_begun_while_a_command_waits_is_asked(
    fake: Holdfast, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It owns the directory some time before it can be spoken to."""
    monkeypatch.setenv("HOLDFAST_DATA", str(fake.settings.data))
    told: list[Ran] = []
    asking = threading.Thread(
        target=lambda: told.append(run("add", "I keep bees.", "--subject", "bo"))
    )
    asking.start()
    time.sleep(0.5)
    with served(fake):
        asking.join(30)
    ((status, out, err),) = told
    assert (status, err) == (0, "")
    assert "I keep bees." in out
    assert len(fake.statements("bo")) == 1


def test_an_owner_that_cannot_be_spoken_to_is_told_by_its_pid(
    fake: Holdfast, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOLDFAST_DATA", str(fake.settings.data))
    monkeypatch.setenv("HOLDFAST_LOCK_TIMEOUT", "0.1")
    status, out, err = run("add", "x", "--subject", "bo")
    assert (status, out) == (2, "")
    assert f"pid {os.getpid()}" in err
    assert run("list", "--subject", "bo")[0] == 0, "reading needs no lock"


def test_a_command_that_asks_writes_through_one_owner_from_many_processes(
    fake: Holdfast, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOLDFAST_DATA", str(fake.settings.data))
    holdfast = Path(sys.executable).with_name("holdfast")
    with served(fake):
        running = [
            subprocess.Popen([holdfast, "add", f"I keep the number {n}.", "--subject", "bo"])
            for n in range(4)
        ]
        assert [each.wait(60) for each in running] == [0] * 4
    assert len(fake.statements("bo")) == 4
