"""The command line: each command calls the very library that programs call.

It knows no SQL, no vectors and no ranking. The engine is imported when a command
opens it, so that ``holdfast --help`` costs nothing. Exit status 0: done; 1: a check
failed; 2: bad use or bad input, with one line on standard error.
"""

import gc
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .. import __version__
from ..memory.errors import InvalidInputError
from ..retrieval.results import Added
from . import answers
from .agent_commands import hook, mcp
from .audit_commands import FILE, audit, verify
from .key_commands import keys, write_key
from .options import (
    CHECK_FAILED,
    WHOSE,
    Commands,
    Door,
    common,
    file_text,
    json_of,
    server_extra,
    text_of,
    traits_options,
    write_file,
    write_json,
)
from .render import Page, plain_value, progress, shown, to_json

if TYPE_CHECKING:
    from ..memory.models import Key
    from ..retrieval.results import DoctorReport
    from .serve import Started

LONG_TEXT = 4_000  # characters from which adding takes long enough to say so


@click.group(cls=Commands, no_args_is_help=True)
@click.version_option(__version__, prog_name="holdfast")
@common()
def cli() -> None:
    """Keep what people value, promise and have decided; find the few that matter now.

    Start with:  holdfast demo
    """


@cli.command()
@click.argument("text")
@common()
@traits_options
@click.option("--source", default="subject", metavar="NAME", help="Where the text comes from.")
@click.option("--no-split", is_flag=True, help="Keep the text as one statement.")
@click.option("--lines", is_flag=True, help="Every line is a text of its own (bulk loading).")
@click.pass_obj
def add(door: Door, text: str, no_split: bool, lines: bool, **traits: Any) -> None:
    """Store what TEXT says, as single statements.

    TEXT may be - for standard input. Kind, strength and scope are read from the words
    unless they are given.
    """
    given = text_of(text)
    said: dict[str, Any] = {**_traits(traits), "source": traits["source"], "split": not no_split}
    with door.open() as holdfast:
        if lines:
            texts = [line for line in given.splitlines() if line.strip()]
            if not texts:
                raise InvalidInputError("there is no line with text in it; nothing was stored")
            with progress("Adding") as report:
                added = Added(holdfast.add_many(door.subject, texts, **said, progress=report))
        else:
            with progress("Adding" if len(given) >= LONG_TEXT else ""):
                added = holdfast.add(door.subject, given, **said)
    door.answer(answers.added_value(added), lambda page: answers.write_added(page, added))


@cli.command()
@click.option("--situation", required=True, metavar="TEXT", help="What the case was.")
@click.option("--choice", required=True, metavar="TEXT", help="What was chosen.")
@click.option("--reason", required=True, metavar="TEXT", help="Why.")
@click.option("--weighed", multiple=True, metavar="ID", help="A statement weighed (repeatable).")
@common()
@click.pass_obj
def decide(door: Door, situation: str, choice: str, reason: str, weighed: tuple[str, ...]) -> None:
    """Store a decision: a precedent for later cases."""
    with door.open() as holdfast:
        decision = holdfast.decide(
            door.subject, situation=situation, choice=choice, reason=reason, weighed=weighed
        )
    door.answer(decision, lambda page: answers.write_decision(page, decision))


@cli.command()
@click.argument("prompt")
@common(subject=f"{WHOSE} Repeat it in order of precedence.")
@click.option("--limit", type=click.IntRange(0), metavar="N", help="Most topical statements.")
@click.option("--budget", type=click.IntRange(0), metavar="TOKENS", help="Most tokens of them.")
@click.option(
    "--threshold", type=click.FloatRange(0, 1), metavar="P",
    help="Least probability, 0 to 1, in place of the settings'.",
)  # fmt: skip
@click.option("--context", multiple=True, metavar="NAME", help="Context of the request.")
@click.option("--as-of", metavar="TIME", help="As at this time (ISO 8601; a date: 00:00 UTC).")
@click.option("--no-record", is_flag=True, help="Leave no evidence (for trying out).")
@click.option("--all", "show_all", is_flag=True, help="Show every candidate.")
@click.pass_obj
def query(
    door: Door, prompt: str, context: tuple[str, ...], no_record: bool, show_all: bool, **said: Any
) -> None:
    """Find the few statements that bear on PROMPT.

    PROMPT may be - for standard input. Shows what is injected, the near misses, and
    the id of the evidence.
    """
    request = text_of(prompt)
    subjects = list(door.subjects) if len(door.subjects) > 1 else door.subject
    with door.open() as holdfast:
        found = holdfast.retrieve(subjects, request, contexts=context, record=not no_record, **said)
    door.answer(found, lambda page: answers.write_retrieval(page, found, show_all=show_all))


@cli.command("list")
@common()
@click.option("--as-of", metavar="TIME", help="What held at this time (a date: 00:00 UTC).")
@click.option("--known-at", metavar="TIME", help="As far as was recorded by this time.")
@click.option("--all", "include_retired", is_flag=True, help="Also retired statements.")
@click.pass_obj
def list_(door: Door, **said: Any) -> None:
    """List a subject's statements."""
    with door.open(read_only=True) as holdfast:
        found = holdfast.statements(door.subject, **said)
    if not found and not door.as_json:
        print(  # noqa: T201
            f"holdfast: no statements of {door.subject!r} here; add one with: holdfast add TEXT",
            file=sys.stderr,
        )
    door.answer(found, lambda page: answers.write_statements(page, found))


@cli.command()
@click.argument("statement_id", metavar="ID")
@click.argument("text", required=False)
@click.option("--reason", metavar="TEXT", help="Why it changes.")
@common(subject=None)
@traits_options
@click.pass_obj
def revise(
    door: Door, statement_id: str, text: str | None, reason: str | None, **traits: Any
) -> None:
    """Write a new version; the old one is kept.

    TEXT may be - for standard input, or left out where only options change.
    """
    changes = _traits(traits, partial=True)
    given = None if text is None else text_of(text)
    if given is None and not changes:
        raise InvalidInputError("say what changes: give the new TEXT, or an option like --strength")
    with door.open() as holdfast:
        statement = holdfast.revise(statement_id, given, reason=reason, **changes)
    door.answer(statement, lambda page: answers.write_change(page, statement, "revised"))


@cli.command()
@click.argument("statement_id", metavar="ID")
@click.option("--reason", metavar="TEXT", help="Why it no longer holds.")
@common(subject=None)
@click.pass_obj
def retire(door: Door, statement_id: str, reason: str | None) -> None:
    """End a statement; it stays in the record.

    It is no longer retrieved, and still answers for the time before.
    """
    with door.open() as holdfast:
        statement = holdfast.retire(statement_id, reason=reason)
    door.answer(statement, lambda page: answers.write_change(page, statement, "retired"))


@cli.command()
@click.argument("statement_id", metavar="ID")
@common(subject=None)
@click.pass_obj
def history(door: Door, statement_id: str) -> None:
    """Show every version of a statement."""
    with door.open(read_only=True) as holdfast:
        versions = holdfast.history(statement_id)
    door.answer(versions, lambda page: answers.write_history(page, versions))


cli.add_command(audit)
cli.add_command(keys)
cli.add_command(hook)
cli.add_command(mcp)
cli.add_command(verify)


@cli.command()
@common()
@click.option("--out", type=FILE, help="Write it to this file (default: standard output).")
@click.pass_obj
def export(door: Door, out: Path | None) -> None:
    """Write a subject's record as one JSON document.

    Every version of every statement, decisions and proposals; the export is recorded.
    """
    with door.open() as holdfast:
        document = holdfast.export(door.subject)
    if out is None:
        write_json(document)
        return
    write_file(out, to_json(document) + "\n", private=True)
    value = {"file": str(out), "versions": len(document["statements"])}
    door.answer(value, lambda page: page.line(f"{out}: {value['versions']} versions", "good"))


@cli.command("import")
@click.argument("file", metavar="FILE")
@common(subject="Whose it is here (default: the document's own subject).")
@click.pass_obj
def import_(door: Door, file: str) -> None:
    """Write what export gave back in, ids and history kept.

    FILE may be - for standard input. What is here already is left as it is.
    """
    document = json_of(text_of(file) if file == "-" else file_text(Path(file)))
    subject = door.subject if door.subjects or "subject" not in document else document["subject"]
    with door.open() as holdfast, progress("Adding") as report:
        loaded = holdfast.load(subject, document, progress=report)
    door.answer(loaded, lambda page: page.line(f"{subject}: {loaded}", "good"))


@cli.command()
@common()
@click.option("--yes", is_flag=True, help="Do not ask for the name again (for scripts).")
@click.option("--reason", metavar="TEXT", help="Why; it stays, so name nobody.")
@click.pass_obj
def erase(door: Door, yes: bool, reason: str | None) -> None:
    """Erase a subject: everything but the proofs.

    Statements, history, proposals, evidence and vectors are gone, from the files too.
    """
    subject = door.subject
    if not yes:
        given = click.prompt(
            f"Everything of {shown(subject)} will be erased for good. Type the subject's name",
            err=True,
        )
        if given != subject:
            raise InvalidInputError("that is not the subject's name; nothing was erased")
    with door.open() as holdfast, progress("Erasing"):
        erased = holdfast.erase(subject, reason=reason)
    door.answer(erased, lambda page: page.block(str(erased), indent=0))


@cli.command()
@common(subject=None)
@click.option("--check", is_flag=True, help="Only report; mend nothing.")
@click.pass_obj
def doctor(door: Door, check: bool) -> int:
    """Check the vectors against the record; mend.

    Every version of a statement has its vector and every vector its version: what is
    not so is put right from the database. Exit status 1 when something is left.
    """
    with door.open() as holdfast, progress("Checking") as report:
        found: DoctorReport = holdfast.doctor(mend=not check, progress=report)
    sound = found.ok and (not check or not any(found.findings.values()))
    value = answers.doctor_value(found, sound)
    door.answer(value, lambda page: answers.write_doctor(page, found, sound))
    return 0 if sound else CHECK_FAILED


@cli.command()
@click.option("--host", metavar="HOST", help="Where to listen (default: 127.0.0.1).")
@click.option("--port", type=click.IntRange(0, 65535), metavar="N",
              help="The same (default: 8790); 0: any free one.")  # fmt: skip
@click.option("--log-json", is_flag=True, help="Write the log as JSON, one object a line.")
@common(subject=None, remote=False)
@click.pass_obj
def serve(door: Door, log_json: bool, **where: Any) -> None:
    """Run the server: REST, the gateway to models, MCP.

    It prints where it listens once it answers, and runs until it is told to stop (Ctrl-C).
    The first start makes an admin key, shows it, and listens on this machine alone.
    """
    from ..retrieval.settings import Settings

    given = {name: value for name, value in where.items() if value is not None}
    settings = Settings.load(door.data, **given)

    def say_key(key: "Key", text: str) -> None:
        if door.as_json:
            print(json.dumps({"key": plain_value(key), "secret": text}), flush=True)  # noqa: T201
            return
        page = Page()
        page.line("This is the first start. Here is an admin key:", "title")
        write_key(page, key, text)
        page.line()
        sys.stdout.flush()

    def say_started(started: "Started") -> None:
        if door.as_json:
            print(json.dumps(plain_value(started)), flush=True)  # noqa: T201
            return
        if started.wanted is not None:
            Page().line(
                f"There was no key yet, so it does not listen on {started.wanted}: start it again "
                "for that.",
                "warn",
            )
        Page().line(f"Listening on {started.url}", "good")
        sys.stdout.flush()

    with server_extra():
        from .serve import serve as run

        run(settings, log_json=log_json, say_key=say_key, say_started=say_started)


@cli.command()
@common(subject=None, remote=False)
@click.option(
    "--keep", metavar="DIR", type=click.Path(path_type=Path),
    help="Keep the data in this (new or empty) directory.",
)  # fmt: skip
@click.pass_obj
def demo(door: Door, keep: Path | None) -> int:
    """Show it at work, in a throwaway directory.

    One person's values and decisions, eight prompts, and the evidence.
    """
    from .demo import run, show

    with progress("Adding") as report:
        outcome = run(keep, report)
    if door.as_json:
        door.answer(outcome, lambda _: None)
    else:
        show(Page(width=80), outcome)
    return 0 if outcome.replay.same and outcome.verification.ok else CHECK_FAILED


def _traits(said: dict[str, Any], *, partial: bool = False) -> dict[str, Any]:
    names = ("kind", "strength", "scope", "valid_from", "valid_to")
    traits = {name: said[name] for name in names if not partial or said[name] is not None}
    contexts = tuple(name for name in said["context"] if name)
    if said["context"] or not partial:
        traits["contexts"] = contexts
    return traits


def main() -> None:
    """Run the command line: what the ``holdfast`` script calls."""
    gc.set_threshold(50_000)  # importing makes many objects and no garbage worth the search
    raise SystemExit(cli.run())
