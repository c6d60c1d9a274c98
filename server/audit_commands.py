"""The commands for whoever must show, or be shown, what was retrieved and why.

``holdfast verify`` needs no engine, no database and no key but the log's public one.
"""

import json
import sys
from pathlib import Path
from typing import Any

import click

from .. import __version__
from ..memory.errors import InvalidInputError
from ..memory.models import EVENT_TYPES
from . import answers
from .options import CHECK_FAILED, Commands, Door, common, file_text, text_of, write_file
from .render import progress

FILE = click.Path(path_type=Path, dir_okay=False)


@click.group(cls=Commands)
@common()
def audit() -> None:
    """Read the ledger: what was retrieved, and why; prove it."""


@audit.command("list")
@common(subject="Only events about this subject (default: all).")
@click.option("--limit", type=click.IntRange(1), default=50, show_default=True, metavar="N")
@click.option("--events", "every", is_flag=True, help="Events of every type, not retrievals only.")
@click.option(
    "--type", "types", type=click.Choice(EVENT_TYPES), multiple=True, metavar="TYPE",
    help=f"Only of this type (repeatable): {', '.join(EVENT_TYPES)}.",
)  # fmt: skip
@click.pass_obj
def audit_list(door: Door, limit: int, every: bool, types: tuple[str, ...]) -> None:
    """List evidence of retrievals, newest first."""
    subject = door.subject if door.subjects else None
    wanted = types or (None if every else ("retrieval",))
    with door.open(read_only=True) as holdfast:
        entries = holdfast.audit.events(subject, types=wanted, limit=limit)
    door.answer(entries, lambda page: answers.write_evidence(page, entries))


@audit.command("show")
@click.argument("evidence_id", metavar="EVIDENCE")
@common(subject=None)
@click.pass_obj
def audit_show(door: Door, evidence_id: str) -> None:
    """Show one event.

    Of a retrieval: every candidate with its scores and verdict, and what took part.
    """
    with door.open(read_only=True) as holdfast:
        entry = holdfast.audit.entry(evidence_id)
        if entry.type == "retrieval" and not entry.erased:
            explanation = holdfast.explain(evidence_id)
            door.answer(explanation, lambda page: answers.write_explanation(page, explanation))
            return
    door.answer(entry, lambda page: answers.write_event(page, entry))


@audit.command("replay")
@click.argument("evidence_id", metavar="EVIDENCE")
@common(subject=None)
@click.option("--without", multiple=True, metavar="ID", help="What if this had not been there?")
@click.option(
    "--as-of", metavar="TIME", help="What if it had been asked at this time (a date: 00:00 UTC)?"
)
@click.option("--prompt", metavar="TEXT", help="What was asked, to embed it anew too; - reads it.")
@click.pass_obj
def audit_replay(
    door: Door, evidence_id: str, without: tuple[str, ...], as_of: str | None, prompt: str | None
) -> int:
    """Do a recorded retrieval again and compare.

    Exit status 1 when it differs. With --without or --as-of it shows what would have been
    injected otherwise; nothing is written.
    """
    request = None if prompt is None else text_of(prompt)
    with door.open(read_only=True) as holdfast:
        replay = holdfast.replay(evidence_id, without=without, as_of=as_of, request=request)
        what_if = bool(without) or as_of is not None
        door.answer(replay, lambda page: answers.write_replay(page, replay, what_if=what_if))
    return 0 if replay.same or what_if else CHECK_FAILED


@audit.command("verify")
@common(subject=None)
@click.option("--checkpoint", type=FILE, help="A checkpoint that was kept elsewhere.")
@click.pass_obj
def audit_verify(door: Door, checkpoint: Path | None) -> int:
    """Check the whole ledger, and the record against it.

    Prints VERIFIED, VERIFIED-ERASED (some payloads were erased) or FAILED with the place
    and the reason; exit status 1 when it does not hold.
    """
    note = None if checkpoint is None else file_text(checkpoint)
    with door.open(read_only=True) as holdfast, progress("Verifying") as report:
        found = holdfast.verify(checkpoint=note, progress=report)
    value = answers.verification_value(found)
    door.answer(value, lambda page: answers.write_verification(page, found))
    return 0 if found.ok else CHECK_FAILED


@audit.command("checkpoint")
@common(subject=None)
@click.option("--out", type=FILE, help="Write it to this file.")
@click.option("--key-out", type=FILE, help="Write the ledger's public key to this file.")
@click.option(
    "--timestamp",
    metavar="URL",
    help="Have it time-stamped (RFC 3161) by this authority, into the file's name with .tsr.",
)
@click.option("--since", type=FILE, help="The newest checkpoint, if the signer's own is lost.")
@click.option(
    "--start-over", metavar="REASON",
    help="Signed leaves are lost for good: go on under a new name, and say why.",
)  # fmt: skip
@click.pass_obj
def audit_checkpoint(
    door: Door,
    out: Path | None,
    key_out: Path | None,
    timestamp: str | None,
    since: Path | None,
    start_over: str | None,
) -> None:
    """Sign the ledger as it stands, and print the checkpoint.

    Keep it elsewhere: whoever has it can see later that nothing under it was changed.
    """
    if timestamp is not None and out is None:
        raise click.UsageError("--timestamp needs --out FILE, to write FILE and FILE.tsr")
    with door.open() as holdfast:
        if start_over is not None:
            signed = holdfast.audit.start_over(start_over)
        else:
            signed = holdfast.audit.checkpoint(since=None if since is None else file_text(since))
        key = holdfast.audit.verifier_key
    if out is not None:
        write_file(out, signed.note)
    if key_out is not None:
        write_file(key_out, key + "\n")
    value = answers.checkpoint_value(signed, key)
    if timestamp is not None and out is not None:
        stamp = holdfast.audit.timestamp(signed, timestamp)
        write_file(out.with_name(f"{out.name}.tsr"), stamp.response)
        value["timestamp"] = stamp.time.isoformat()
    door.answer(value, lambda page: answers.write_checkpoint(page, value))


@audit.command("bundle")
@click.argument("evidence_id", metavar="EVIDENCE")
@common(subject=None)
@click.option("--out", type=FILE, help="Write it to this file (default: standard output).")
@click.option("--disclose", multiple=True, metavar="FIELD", help="Show this field (repeatable).")
@click.option("--disclose-all", is_flag=True, help="Show all fields, with texts and vectors.")
@click.option("--since", type=FILE, help="A checkpoint that the auditor has kept.")
@click.pass_obj
def audit_bundle(
    door: Door,
    evidence_id: str,
    out: Path | None,
    disclose: tuple[str, ...],
    disclose_all: bool,
    since: Path | None,
) -> None:
    """Make a bundle: proof of one event, to be checked without this ledger.

    Unless told otherwise it shows no texts, no names and no vectors.
    """
    note = None if since is None else file_text(since)
    with door.open() as holdfast:
        shown: Any = disclose or None
        if disclose_all:
            shown = ("subjects", *holdfast.audit.entry(evidence_id).payload)
        bundle = holdfast.audit.bundle(evidence_id, disclose=shown, since=note)
    text = json.dumps(bundle, indent=1, ensure_ascii=True) + "\n"
    if out is None:
        sys.stdout.write(text)
        return
    write_file(out, text, private=True)
    entry = bundle["entries"][0]
    value = {"file": str(out), "disclosed": len(entry.get("disclosed", ())),
             "withheld": len(entry.get("withheld", ())), "key": bundle["key"]}  # fmt: skip
    door.answer(value, lambda page: answers.write_bundle(page, value))


@audit.command("publish")
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@common(subject=None)
@click.pass_obj
def audit_publish(door: Door, folder: Path) -> None:
    """Write the whole log to FOLDER as static files (C2SP tlog-tiles).

    It names nobody and holds no texts; independent tools read it.
    """
    with door.open() as holdfast, progress("Writing") as report:
        signed = holdfast.audit.export_log(folder, progress=report)
        key = holdfast.audit.verifier_key
    value = {"folder": str(folder), "size": signed.size, "key": key}
    door.answer(value, lambda page: answers.write_published(page, value))


@audit.command("verifier")
@click.argument("file", type=FILE, required=False)
@common(subject=None, remote=False)
@click.pass_obj
def audit_verifier(door: Door, file: Path | None) -> None:
    """Write the stand-alone verifier to FILE (default: standard output).

    One file that needs Python and the package cryptography, and nothing of Holdfast.
    """
    from ..memory.standalone import source

    if file is None or str(file) == "-":
        sys.stdout.write(source(__version__))
        return
    write_file(file, source(__version__, file.name))
    value = {"file": str(file)}
    door.answer(value, lambda page: page.line(f"{file}: run it with: python {file} --help", "good"))


@audit.command("rotate-key")
@common(subject=None)
@click.option(
    "--drop-old", is_flag=True,
    help="Take the old key out of the key file: older backups can then not be read.",
)  # fmt: skip
@click.pass_obj
def audit_rotate_key(door: Door, drop_old: bool) -> None:
    """Give the installation a new key.

    Every data key is wrapped anew; what was interrupted goes on when it is run again.
    """
    with door.open() as holdfast, progress("Wrapping") as report:
        event = holdfast.audit.rotate_key(drop_old=drop_old, progress=report)
    value = {"evidence_id": event}
    door.answer(value, lambda page: page.line(f"done; recorded as {event}", "good"))


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path, exists=True))
@click.option("--key", required=True, metavar="KEY", help="The log's public key, or its file.")
@click.option("--since", type=FILE, help="A checkpoint that you have kept.")
@click.option("--show", is_flag=True, help="Print the fields that are shown.")
@common(subject=None, remote=False)
@click.pass_obj
def verify(door: Door, bundle: Path, key: str, since: Path | None, show: bool) -> int:
    """Check a bundle, or the folder of a published log, offline.

    Prints VERIFIED, VERIFIED-ERASED or FAILED with the leaf and the reason; exit status 1
    when it does not hold. Have the key from somebody you trust, not from the bundle.
    """
    from ..memory import verifier
    from ..memory.canonical import Rejected
    from ..memory.published import Unreadable, read_text

    try:
        with progress("Verifying" if bundle.is_dir() else "") as report:
            found = verifier.verify_path(
                bundle,
                verifier.key_argument(key),
                since=None if since is None else read_text(since),
                progress=report,
            )
        value = answers.report_value(found, show=show)
    except Unreadable as error:
        raise InvalidInputError(str(error)) from None
    except Rejected as error:
        reason = str(error)
        value = {"verdict": verifier.FAILED, "problem": reason}
        door.answer(value, lambda page: page.line(f"{verifier.FAILED} {reason}", "bad"))
        return CHECK_FAILED
    door.answer(value, lambda page: answers.write_report(page, found, show=show))
    return 0
