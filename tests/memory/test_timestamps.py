"""A checkpoint is time-stamped by an authority, which openssl then confirms."""

import http.server
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from holdfast.memory import timestamps
from holdfast.memory.errors import ConfigurationError, InvalidInputError

pytest.importorskip("rfc3161_client", reason="needs: pip install 'holdfast[timestamp]'")
OPENSSL = shutil.which("openssl")
needs_openssl = pytest.mark.skipif(OPENSSL is None, reason="needs the program openssl")
NOTE = "holdfast/x\n1\nAAAA\n\n— signature\n"
CONFIG = """
[tsa]
default_tsa = own
[own]
serial = {folder}/serial
signer_cert = {folder}/tsa.crt
signer_key = {folder}/tsa.key
signer_digest = sha256
default_policy = 1.2.3.4
digests = sha256
ess_cert_id_alg = sha256
"""


def openssl(folder: Path, *words: str) -> str:
    run = subprocess.run(
        [str(OPENSSL), *words], cwd=folder, capture_output=True, text=True, check=True
    )
    return run.stdout + run.stderr


class Authority(http.server.BaseHTTPRequestHandler):
    """A time-stamping authority; ``answer`` tells what it gives for a request."""

    folder: Path
    mode = "honest"
    asked: bytes = b""

    def do_POST(self) -> None:
        asked = self.rfile.read(int(self.headers["Content-Length"]))
        type(self).asked = asked
        if self.mode == "silent":
            self.connection.close()
            return
        raw = b"no time-stamp" if self.mode == "garbled" else self.sign(asked)
        self.send_response(500 if self.mode == "broken" else 200)
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    def sign(self, asked: bytes) -> bytes:
        folder = self.folder
        if self.mode == "another":
            openssl(folder, "ts", "-query", "-data", "tsa.crt", "-sha256", "-out", "asked.tsq")
        elif self.mode == "refusing":
            openssl(folder, "ts", "-query", "-data", "tsa.crt", "-sha512", "-out", "asked.tsq")
        else:
            (folder / "asked.tsq").write_bytes(asked)
        config = ("-config", "tsa.cnf")
        openssl(folder, "ts", "-reply", *config, "-queryfile", "asked.tsq", "-out", "reply.tsr")
        return (folder / "reply.tsr").read_bytes()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def authority(tmp_path: Path) -> Iterator[str]:
    folder = tmp_path / "tsa"
    folder.mkdir()
    extension = "extendedKeyUsage=critical,timeStamping"
    openssl(
        folder, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "tsa.key", "-out",
        "tsa.crt", "-days", "2", "-subj", "/CN=Test authority", "-addext", extension,
    )  # fmt: skip
    (folder / "tsa.cnf").write_text(CONFIG.format(folder=folder))
    (folder / "serial").write_text("01\n")
    Authority.folder, Authority.mode = folder, "honest"
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Authority)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    thread.join()
    server.server_close()


@needs_openssl
def test_openssl_confirms_the_time_stamp_of_a_checkpoint(authority: str) -> None:
    stamp = timestamps.fetch(NOTE, authority)
    folder = Authority.folder
    (folder / "kept").write_text(NOTE, encoding="utf-8")
    (folder / "kept.tsr").write_bytes(stamp.response)
    against = ("-in", "kept.tsr", "-CAfile", "tsa.crt")
    assert "Verification: OK" in openssl(folder, "ts", "-verify", "-data", "kept", *against)
    (folder / "kept").write_text(NOTE + " ", encoding="utf-8")
    with pytest.raises(subprocess.CalledProcessError):
        openssl(folder, "ts", "-verify", "-data", "kept", *against)
    assert b"holdfast" not in Authority.asked
    assert stamp.time.year >= 2026


@needs_openssl
@pytest.mark.parametrize(
    ("mode", "words"),
    [
        ("another", "its answer is to something else"),
        ("refusing", "it refused"),
        ("garbled", "no time-stamp"),
        ("broken", "did not answer .*500"),
        ("silent", "did not answer"),
    ],
)
def test_what_is_no_time_stamp_of_it_is_refused(authority: str, mode: str, words: str) -> None:
    Authority.mode = mode
    with pytest.raises(ConfigurationError, match=words):
        timestamps.fetch(NOTE, authority)


def test_an_authority_that_is_not_there_is_named_so() -> None:
    with pytest.raises(ConfigurationError, match=r"did not answer .*The checkpoint is signed"):
        timestamps.fetch(NOTE, "http://127.0.0.1:9/")
    for url in ("ftp://example.org", "file:///etc/passwd", "", "example.org"):
        with pytest.raises(InvalidInputError, match="URL like https"):
            timestamps.fetch(NOTE, url)
