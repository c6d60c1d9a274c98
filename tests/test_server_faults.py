"""A server that is killed under load: what a client saw answered is on record, all of it."""

import contextlib
import http.client
import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from upstreams import Upstream

from holdfast import Holdfast

KILLS = max(2, int(os.environ.get("HOLDFAST_TEST_KILLS", "30")) // 15)
CLIENTS = 8
MAIN = "from holdfast.server.cli import main; main()"


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@contextlib.contextmanager
def serve(folder: Path, up: Upstream, port: int) -> Iterator[subprocess.Popen[bytes]]:
    environment = os.environ | {
        "HOLDFAST_DATA": str(folder), "HOLDFAST_PORT": str(port), "HOLDFAST_RATE_LIMIT": "0",
        "HOLDFAST_UPSTREAM": f"{up.url}/v1",
    }  # fmt: skip
    command = [sys.executable, "-c", MAIN, "serve"]
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    ) as process:
        try:
            until = time.monotonic() + 60
            while not is_ready(port):
                assert process.poll() is None, process.stderr and process.stderr.read()
                assert time.monotonic() < until
                time.sleep(0.05)
            threading.Thread(
                target=lambda: process.stderr and process.stderr.read(), daemon=True
            ).start()
            yield process
        finally:
            process.kill()


def is_ready(port: int) -> bool:
    asked = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    with contextlib.closing(asked), contextlib.suppress(OSError, http.client.HTTPException):
        asked.request("GET", "/readyz")
        with asked.getresponse() as answer:
            return answer.status == 200
    return False


class Client(threading.Thread):
    """Asks on and on; keeps the evidence of each answer that it saw whole."""

    def __init__(self, port: int, key: str, number: int) -> None:
        super().__init__()
        self.answered: list[str] = []
        self.stopped = False
        self._turn = 0
        self._port, self._number = port, number
        self._headers = {
            "x-holdfast-key": key, "x-holdfast-subject": f"person {number}",
            "authorization": "Bearer sk", "content-type": "application/json",
        }  # fmt: skip

    def run(self) -> None:
        while not self.stopped:
            connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=20)
            with (
                contextlib.closing(connection),
                contextlib.suppress(OSError, http.client.HTTPException),
            ):
                while not self.stopped:
                    self._ask(connection)
            time.sleep(0.01)

    def _ask(self, connection: http.client.HTTPConnection) -> None:
        self._turn += 1
        said = [{"role": "user", "content": f"May I eat nuts? {self._turn}"}]
        body = {"model": "echo", "messages": said, "stream": bool(self._turn % 2)}
        connection.request("POST", "/v1/chat/completions", json.dumps(body), self._headers)
        with connection.getresponse() as answer:
            content = answer.read()
            whole = content.endswith(b"data: [DONE]\n\n") or b'"usage"' in content
            if answer.status == 200 and whole:
                self.answered.append(answer.headers["x-holdfast-evidence"])


def test_what_was_answered_before_a_kill_has_its_evidence_and_its_outcome(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    with Holdfast.open(folder) as hf:
        for number in range(CLIENTS):
            hf.add(f"person {number}", "I never eat nuts.")
        _, key = hf.access.create("a test", role="app")
    generator, told = random.Random(4), 0
    with Upstream() as up:
        for _ in range(KILLS):
            port = free_port()
            with serve(folder, up, port) as process:
                clients = [Client(port, key, number) for number in range(CLIENTS)]
                for client in clients:
                    client.start()
                time.sleep(generator.uniform(1.0, 3.0))
                process.send_signal(signal.SIGKILL)
                process.wait()
                for client in clients:
                    client.stopped = True
                for client in clients:
                    client.join(30)
            told += check(folder, [each for client in clients for each in client.answered])
    assert told > KILLS, "too little was answered to show anything"


def check(folder: Path, answered: list[str]) -> int:
    """See that every answer has its retrieval, its intent and its outcome, and all holds."""
    with Holdfast.open(folder, read_only=True) as hf:
        retrievals = {event.id for event in hf.evidence(limit=None)}
        intents = {
            event.payload["retrieval"]: event.id
            for event in hf.audit.events(types=["call.intent"], limit=None)
        }
        outcomes = {
            event.payload["intent"] for event in hf.audit.events(types=["call.outcome"], limit=None)
        }
        for evidence in answered:
            assert evidence in retrievals
            assert intents[evidence] in outcomes
        found = hf.verify()
        assert found, str(found)
    return len(answered)


@pytest.mark.parametrize("sign", [signal.SIGTERM, signal.SIGINT])
def test_a_server_that_is_asked_to_end_finishes_what_is_in_flight(
    tmp_path: Path, sign: signal.Signals
) -> None:
    folder = tmp_path / "data"
    with Holdfast.open(folder) as hf:
        hf.add("person 0", "I never eat nuts.")
        _, key = hf.access.create("a test", role="app")
    with Upstream(delay=0.1) as up:
        port = free_port()
        with serve(folder, up, port) as process:
            client = Client(port, key, 0)
            client.start()
            while not up.requests:
                time.sleep(0.01)
            client.stopped = True
            process.send_signal(sign)
            client.join(30)
            assert process.wait(30) == 0
            assert client.answered
    check(folder, client.answered)
