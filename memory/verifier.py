"""Checks what a ledger gave out: bundles, and whole logs exported as tiles.

It needs no database, no network and no key but the log's public one. With the modules that
it imports it makes up the stand-alone verifier (``holdfast audit verifier FILE``): one file
that runs with Python and the package ``cryptography`` alone.

It knows what was committed to, and nothing of whether that was true at the time.
"""

import argparse
import contextlib
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .canonical import Rejected, read_json
from .checkpoint import Checkpoint, VerifierKey, decode, read_checkpoint, read_key, read_number
from .leaf import (
    Leaf,
    as_list,
    as_object,
    as_text,
    corpus_digest,
    field_digest,
    payload_commit,
    read_candidates,
    read_field,
    read_leaf,
)
from .merkle import check_hashes, hash_leaf, verify_consistency, verify_inclusion
from .published import Progress, Unreadable, read_text, verify_tiles

VERIFIED, ERASED, FAILED = "VERIFIED", "VERIFIED-ERASED", "FAILED"
BUNDLE_FORMAT = "holdfast-bundle-1"
PROOF_FORMAT = "c2sp.org/tlog-proof@v1"


@dataclass(frozen=True)
class Entry:
    """One leaf of a bundle: where it stands, and what of it was shown."""

    index: int
    leaf: Leaf
    fields: dict[str, Any] = field(default_factory=dict[str, Any])
    withheld: int = 0
    """How many fields are there and were not shown."""
    rows: tuple[str, ...] = ()
    """Of a retrieval: the lines that stand for the statements it scored."""

    @property
    def erased(self) -> bool:
        """Whether the payload is gone."""
        return not self.fields and not self.withheld

    @property
    def candidates(self) -> list[dict[str, Any]]:
        """What a retrieval made of each statement, where its scores are shown.

        The scores are in millionths. ``statement`` and ``version`` are known where the
        rows are shown too.
        """
        if self.leaf.type != "retrieval" or "candidates" not in self.fields:
            return []
        candidates = read_candidates(as_text(self.fields["candidates"], "the candidates"))
        if self.rows and len(self.rows) != len(candidates):
            raise Rejected("there are not as many rows as statements were scored")
        for candidate, row in zip(candidates, self.rows, strict=False):
            statement, version, *_ = [*row.split(" "), ""]
            candidate |= {"statement": statement, "version": read_number(version, "a version")}
        return candidates

    def __str__(self) -> str:
        said = f"leaf {self.index}: {self.leaf.type} {self.leaf.id}"
        if self.erased:
            return f"{said}, erased"
        return f"{said}, {len(self.fields)} fields shown, {self.withheld} withheld"


@dataclass(frozen=True)
class Report:
    """What a bundle or an exported log turned out to be."""

    checkpoint: Checkpoint
    entries: tuple[Entry, ...] = ()

    @property
    def verdict(self) -> str:
        """``VERIFIED``, or ``VERIFIED-ERASED`` where a payload was erased."""
        return ERASED if any(entry.erased for entry in self.entries) else VERIFIED

    def __str__(self) -> str:
        checkpoint = self.checkpoint
        return f"{self.verdict} under {checkpoint.origin} at {checkpoint.size} leaves"


# A bundle


def read_proof(text: str, key: VerifierKey) -> tuple[int, list[bytes], Checkpoint]:
    """Read an inclusion proof (C2SP tlog-proof) and open its checkpoint.

    Returns:
        The leaf's index, the hashes, the checkpoint.

    Raises:
        Rejected: it is no such proof, or its checkpoint is not signed by the key.
    """
    head, _, note = text.partition("\n\n")
    form, *lines = head.split("\n")
    if form != PROOF_FORMAT:
        raise Rejected(f"a proof begins with {PROOF_FORMAT}")
    if lines and lines[0].startswith("extra "):
        lines = lines[1:]
    if not lines or not lines[0].startswith("index "):
        raise Rejected("the proof names no index")
    index = read_number(lines[0].removeprefix("index "), "the index")
    hashes = [decode(line, "a hash of the proof") for line in lines[1:]]
    return index, hashes, read_checkpoint(note, key)


def verify_bundle(document: Any, key: VerifierKey, *, since: str | None = None) -> Report:
    """Check a bundle.

    Args:
        document: the bundle, as read from JSON.
        key: the log's. It must come from elsewhere than the bundle.
        since: a checkpoint that the auditor has kept; the bundle must then show that its
            own one continues it.

    Raises:
        Rejected: something in it does not hold; the message names the leaf.
    """
    bundle = as_object(document, "the bundle")
    if bundle.get("format") != BUNDLE_FORMAT:
        raise Rejected(f"this is no bundle of format {BUNDLE_FORMAT}")
    shown = [as_object(each, "an entry") for each in as_list(bundle.get("entries"), "entries")]
    opened = [_open_entry(each, key) for each in shown]
    if not opened:
        raise Rejected("the bundle has no entries")
    report = Report(opened[0][1], tuple(entry for entry, _ in opened))
    if any(checkpoint.note != report.checkpoint.note for _, checkpoint in opened):
        raise Rejected("the entries stand under different checkpoints")
    for entry in report.entries:
        if entry.erased and not any(_erases(other, entry) for other in report.entries):
            raise Rejected(
                f"leaf {entry.index} ({entry.leaf.id}): its payload is missing, and no "
                "erasure in the bundle names it"
            )
    if since is not None:
        before, now = read_checkpoint(since, key), report.checkpoint
        given = as_list(bundle.get("consistency", []), "consistency")
        if before.size == now.size:  # the very same one; it was made for an earlier one too
            given = []
        if not given and before.size < now.size:
            raise Rejected(
                "the bundle does not show that the log continues the checkpoint that you kept; "
                "have it made with: holdfast audit bundle --since"
            )
        proof = [decode(as_text(each, "a hash"), "a hash of the proof") for each in given]
        verify_consistency(before.size, now.size, before.root, now.root, proof)
    return report


def _open_entry(entry: Mapping[str, Any], key: VerifierKey) -> tuple[Entry, Checkpoint]:
    text = as_text(entry.get("leaf"), "a leaf")
    index, proof, checkpoint = read_proof(as_text(entry.get("proof"), "a proof"), key)
    leaf = read_leaf(text)
    verify_inclusion(hash_leaf(text.encode()), index, checkpoint.size, proof, checkpoint.root)
    try:
        return _opened(entry, index, leaf), checkpoint
    except Rejected as error:
        raise Rejected(f"leaf {index} ({leaf.id}): {error}") from None


def _opened(entry: Mapping[str, Any], index: int, leaf: Leaf) -> Entry:
    shown = [as_text(each, "a field") for each in as_list(entry.get("disclosed", []), "disclosed")]
    hidden = [as_text(each, "a digest") for each in as_list(entry.get("withheld", []), "withheld")]
    if not shown and not hidden:
        return Entry(index, leaf)
    fields = dict(map(read_field, shown))
    if len(fields) != len(shown):
        raise Rejected("a field is shown twice")
    digests = [field_digest(each.encode()) for each in shown]
    digests += [_hexadecimal(each) for each in hidden]
    if payload_commit(digests) != leaf.commit:
        raise Rejected("the fields are not those that were recorded")
    opened = Entry(index, leaf, fields, len(hidden), _rows(entry, fields))
    _ = opened.candidates  # each belongs to one row, also where none is printed
    return opened


def _rows(entry: Mapping[str, Any], fields: Mapping[str, Any]) -> tuple[str, ...]:
    """Read the rows beside a retrieval, and see that they are the statements that it scored."""
    given = [as_list(rows, "the rows") for rows in as_list(entry.get("corpora", []), "corpora")]
    texts = [[as_text(row, "a row") for row in rows] for rows in given]
    recorded = as_list(fields.get("corpora", []), "the field corpora")
    digests = [as_object(each, "a corpus").get("digest") for each in recorded]
    if given and list(map(corpus_digest, texts)) != digests:
        raise Rejected("the rows are not the statements that were scored")
    rows = tuple(row for rows in texts for row in rows)
    if any("\n" in row for row in rows):  # two rows would have the digest of one
        raise Rejected("a row is more than one line")
    return rows


def _erases(erasure: Entry, entry: Entry) -> bool:
    """Tell whether an entry is an erasure, later than another, that names it."""
    return (
        erasure.leaf.type == "erasure"
        and entry.index < erasure.index
        and any(
            entry.leaf.id in as_list(value, name)
            for name, value in erasure.fields.items()
            if name.startswith("events.")
        )
    )


def _hexadecimal(text: str) -> bytes:
    try:
        digest = bytes.fromhex(text)
    except ValueError:
        raise Rejected("a digest is no hexadecimal") from None
    check_hashes(digest)
    if digest.hex() != text:
        raise Rejected("a digest is spelled in another way than in lower case")
    return digest


# The command


def verify_path(
    path: Path, key: VerifierKey, *, since: str | None = None, progress: Progress | None = None
) -> Report:
    """Check a bundle's file, or the folder of an exported log.

    Raises:
        Unreadable: there is no such file.
        Rejected: something does not hold, or a file of the log is missing.
    """
    if path.is_dir():
        try:
            return Report(verify_tiles(path, key, since=since, progress=progress))
        except Unreadable as error:
            raise Rejected(str(error)) from None
    return verify_bundle(read_json(read_text(path)), key, since=since)


def key_argument(text: str) -> VerifierKey:
    """Read a key that is given as such, or as the path of a file that holds it.

    Raises:
        Unreadable: it is no key, and there is no such file.
        Rejected: it is none.
    """
    if "+" in text:
        with contextlib.suppress(OSError):  # a path may be too long for one
            if not Path(text).is_file():
                return read_key(text)
    return read_key(read_text(Path(text)))


def told(report: Report, *, show: bool) -> list[str]:
    """Give the lines that say what a bundle or a log turned out to be.

    Raises:
        Rejected: what is to be shown cannot be read.
    """
    lines = [str(report)]
    for entry in report.entries:
        lines.append(f"  {entry}")
        for name, value in sorted(entry.fields.items()) if show else ():
            lines.append(f"    {name}: {json.dumps(value)}")
        for candidate in entry.candidates if show else ():
            lines.append(f"    candidate: {json.dumps(candidate)}")
    return lines


def _shown(line: str) -> str:
    """Give a line for a terminal: what its writer put in to move the cursor is spelled out."""
    return "".join(
        sign if " " <= sign <= "~" else sign.encode("unicode_escape").decode() for sign in line
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; 0: it holds, 1: it does not, 2: bad use, or a file is missing."""
    parser = argparse.ArgumentParser(description="Check a bundle, or an exported log, of Holdfast.")
    parser.add_argument("path", type=Path, metavar="BUNDLE", help="a bundle, or a log's folder")
    parser.add_argument("--key", required=True, help="the log's key, or a file that holds it")
    parser.add_argument("--since", type=Path, metavar="FILE", help="a checkpoint that you kept")
    parser.add_argument("--show", action="store_true", help="print the fields that are shown")
    asked = parser.parse_args(arguments)
    try:
        since = None if asked.since is None else read_text(asked.since)
        report = verify_path(asked.path, key_argument(asked.key), since=since)
        lines = told(report, show=asked.show)
    except Unreadable as error:
        sys.stderr.write(f"{parser.prog}: {_shown(str(error))}\n")
        return 2
    except Rejected as error:
        sys.stdout.write(f"{FAILED} {_shown(str(error))}\n")
        return 1
    sys.stdout.write("".join(f"{_shown(line)}\n" for line in lines))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
