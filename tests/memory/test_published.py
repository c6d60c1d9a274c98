"""A log published as tiles is checked leaf by leaf, tile by tile, as C2SP lays them out."""

import hashlib
import json
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from holdfast.memory import published
from holdfast.memory.canonical import Rejected
from holdfast.memory.checkpoint import sign, verifier_key
from holdfast.memory.published import tile_path, verify_tiles

SEED = bytes(range(32))
ORIGIN = "holdfast/feed"
KEY = verifier_key(ORIGIN, SEED)


def leaf(number: int) -> bytes:
    value = {
        "commit": "c",
        "id": f"ev_{number}",
        "sealed": "s",
        "time": number,
        "type": "t",
        "v": 1,
    }
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


@cache
def node(level: int, index: int) -> bytes:
    """Hash a full subtree as RFC 6962 defines it."""
    if level == 0:
        return hashlib.sha256(b"\0" + leaf(index)).digest()
    pair = node(level - 1, index * 2) + node(level - 1, index * 2 + 1)
    return hashlib.sha256(b"\1" + pair).digest()


def root(start: int, end: int) -> bytes:
    count = end - start
    if count & (count - 1) == 0 and count:
        return node(count.bit_length() - 1, start // count)
    if not count:
        return hashlib.sha256().digest()
    middle = start + (1 << (count - 1).bit_length() - 1)
    return hashlib.sha256(b"\1" + root(start, middle) + root(middle, end)).digest()


def write(folder: Path, size: int, seed: bytes = SEED, wide: int = 256) -> Path:
    """Publish ``size`` leaves as tlog-tiles says, without the code under test.

    ``wide`` is 256 there; with narrower tiles, a power of two, a small log has many levels.
    """
    high = wide.bit_length() - 1

    def put(path: str, content: bytes) -> None:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)

    def named(number: int, width: int) -> str:
        digits = f"{number:03d}"
        digits = digits.rjust(-(-len(digits) // 3) * 3, "0")
        groups = [digits[i : i + 3] for i in range(0, len(digits), 3)]
        path = "/".join([*(f"x{group}" for group in groups[:-1]), groups[-1]])
        return path if width == wide else f"{path}.p/{width}"

    for number in range(-(-size // wide)):
        span = range(number * wide, min((number + 1) * wide, size))
        packed = b"".join(len(leaf(i)).to_bytes(2, "big") + leaf(i) for i in span)
        put(f"tile/entries/{named(number, len(span))}", packed)
    level = 0
    while count := size // wide**level:
        for number in range(-(-count // wide)):
            span = range(number * wide, min((number + 1) * wide, count))
            hashes = b"".join(node(high * level, i) for i in span)
            put(f"tile/{level}/{named(number, len(span))}", hashes)
        level += 1
    put("checkpoint", sign(ORIGIN, seed, size, root(0, size)).note.encode())
    return folder


def note(size: int, seed: bytes = SEED) -> str:
    return sign(ORIGIN, seed, size, root(0, size)).note


@pytest.mark.parametrize("size", [0, 1, 255, 256, 257, 511, 512, 700])
def test_a_published_log_is_verified(tmp_path: Path, size: int) -> None:
    assert verify_tiles(write(tmp_path, size), KEY).size == size


def test_tiles_of_a_second_level_are_compared_when_they_are_full(tmp_path: Path) -> None:
    size = 256 * 256 + 5
    folder = write(tmp_path, size)
    steps: list[tuple[int, int]] = []
    found = verify_tiles(folder, KEY, progress=lambda *step: steps.append(step))
    assert (found.size, found.root) == (size, root(0, size))
    assert steps[0] == (1024, size)
    assert steps[-1] == (size, size)
    assert len(steps) == 65
    path = folder / "tile/1/000"
    content = path.read_bytes()
    path.write_bytes(bytes([content[0] ^ 1]) + content[1:])
    with pytest.raises(Rejected, match="tile/1/000 does not hold the hashes below it"):
        verify_tiles(folder, KEY)


@pytest.mark.parametrize("path", ["tile/0/033", "tile/1/007", "tile/2/001", "tile/3/000"])
def test_tiles_of_every_level_are_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    monkeypatch.setattr(published, "TILE_WIDTH", 4)
    folder = write(tmp_path, 300, wide=4)
    assert verify_tiles(folder, KEY).size == 300
    content = (folder / path).read_bytes()
    (folder / path).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(Rejected, match=f"{path} does not hold the hashes below it"):
        verify_tiles(folder, KEY)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("log"), 600)


@pytest.mark.parametrize("size", [1, 255, 256, 257, 512, 599, 600])
def test_a_kept_checkpoint_that_the_log_continues_is_accepted(whole: Path, size: int) -> None:
    assert verify_tiles(whole, KEY, since=note(size)).size == 600


@pytest.mark.parametrize("size", [1, 256, 599, 600])
def test_a_kept_checkpoint_of_another_log_is_rejected(whole: Path, size: int) -> None:
    forked = sign(ORIGIN, SEED, size, hashlib.sha256(b"fork").digest()).note
    words = "not the one of the kept" if size == 600 else f"the first {size} leaves are not those"
    with pytest.raises(Rejected, match=words):
        verify_tiles(whole, KEY, since=forked)


def test_a_log_that_lost_its_end_is_rejected(whole: Path) -> None:
    with pytest.raises(Rejected, match="ends before the 601 leaves of the kept checkpoint"):
        verify_tiles(whole, KEY, since=note(601))
    with pytest.raises(Rejected, match="not signed by"):
        verify_tiles(whole, KEY, since=note(600, bytes(32)))


def overwritten(path: str, change: Callable[[bytes], bytes]) -> Callable[[Path], Any]:
    return lambda folder: (folder / path).write_bytes(change((folder / path).read_bytes()))


ENTRIES = "tile/entries/000"
LAST = "tile/entries/002.p/88"
CUT = len(leaf(0)) + 2


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (overwritten(ENTRIES, lambda raw: raw.replace(b"ev_7", b"ev_8")), "tile/0/000 does not"),
        (overwritten(ENTRIES, lambda raw: raw.replace(b'"v":1', b'"v":2')), "leaf 0: the leaf is"),
        (overwritten(LAST, lambda raw: raw.replace(b"ev_599", b"ev_598")), "the first 600 leaves"),
        (overwritten(LAST, lambda raw: raw.replace(b'"c"', b'"\xff"', 1)), "leaf 512: 'utf-8'"),
        (overwritten(ENTRIES, lambda raw: raw[:-1]), "entries/000 is cut off"),
        (overwritten(ENTRIES, lambda raw: raw[:-CUT]), "entries/000 is cut off"),
        (overwritten(ENTRIES, lambda raw: b""), "entries/000 is cut off|leaf 0"),
        (overwritten(ENTRIES, lambda raw: raw + b"\0"), "entries/000 holds more than its leaves"),
        (overwritten(ENTRIES, lambda raw: raw[CUT:] + raw[:CUT]), "tile/0/000 does not"),
        (overwritten("tile/0/001", lambda raw: raw[32:] + raw[:32]), "tile/0/001 does not"),
        (overwritten("tile/0/001", lambda raw: raw[:-32]), "tile/0/001 does not"),
        (overwritten("tile/0/001", lambda raw: raw + bytes(32)), "tile/0/001 does not"),
        (overwritten("checkpoint", lambda raw: raw.replace(b"600", b"599")), "signature"),
        (lambda folder: (folder / "tile/0/001").unlink(), "tile/0/001 cannot be read: No such"),
        (lambda folder: (folder / LAST).unlink(), "002.p/88 cannot be read: No such file"),
        (lambda folder: (folder / "checkpoint").unlink(), "checkpoint cannot be read"),
        (lambda folder: (folder / "checkpoint").write_bytes(b"\xff"), "no UTF-8 text"),
    ],
)  # fmt: skip
def test_a_file_that_was_altered_is_named(
    whole: Path, tmp_path: Path, change: Callable[[Path], Any], words: str
) -> None:
    folder = tmp_path / "altered"
    shutil.copytree(whole, folder)
    change(folder)
    with pytest.raises(Rejected) as refused:
        verify_tiles(folder, KEY)
    assert any(each in str(refused.value) for each in words.split("|")), str(refused.value)


def test_a_whole_log_rewritten_under_another_key_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(Rejected, match="not signed by"):
        verify_tiles(write(tmp_path, 3, bytes(32)), KEY)


def test_progress_is_told_at_the_end_of_a_short_log(whole: Path) -> None:
    steps: list[tuple[int, int]] = []
    verify_tiles(whole, KEY, progress=lambda *step: steps.append(step))
    assert steps == [(600, 600)]


@pytest.mark.parametrize(
    ("level", "number", "width", "path"),
    [
        (0, 0, 256, "tile/0/000"),
        (1, 7, 255, "tile/1/007.p/255"),
        ("entries", 999, 1, "tile/entries/999.p/1"),
        (0, 1000, 256, "tile/0/x001/000"),
        (0, 1234067, 256, "tile/0/x001/x234/067"),
    ],
)
def test_paths_are_those_of_the_specification(
    level: int | str, number: int, width: int, path: str
) -> None:
    assert tile_path(level, number, width) == path
    assert tile_path(0, 5) == "tile/0/005"
