"""The demo: one person's values in a throwaway data directory, eight prompts, the evidence.

Everything that it shows comes out of the engine while it runs.
"""

import shutil
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..memory.errors import InvalidInputError
from ..memory.models import Decision, Statement, Verification
from ..retrieval.results import Candidate, Replay, Retrieval
from .demo_data import DECISIONS, PROMPTS, STATEMENTS, SUBJECT, WHO
from .render import Page, Progress, near_misses, write_candidate

NEAR_MISSES = 2


@dataclass(frozen=True)
class Asked:
    """One prompt and what came of it; the candidates that were far off are left out."""

    prompt: str
    status: str
    injected: list[Candidate]
    near_misses: list[Candidate]
    considered: int
    context: str
    evidence_id: str | None

    @property
    def topical(self) -> list[Candidate]:
        """Those injected because they bear on the prompt."""
        return [c for c in self.injected if c.lane == "topical"]


@dataclass(frozen=True)
class Outcome:
    """All that the demo shows."""

    subject: str
    who: str
    statements: list[Statement]
    decisions: list[Decision]
    prompts: list[Asked]
    replay: Replay
    verification: Verification
    kept: Path | None


def run(keep: Path | None = None, progress: Progress | None = None) -> Outcome:
    """Load the subject, ask the prompts, replay the first, sign and verify the ledger.

    Args:
        keep: a new or empty directory in which the data stay; None: they go.
        progress: called with (done, total) while the subject is loaded.

    Raises:
        InvalidInputError: ``keep`` holds something already.
    """
    from ..retrieval.engine import Holdfast

    with _directory(keep) as (path, how), Holdfast.open(path, **how) as holdfast:
        statements: list[Statement] = []
        total = len(STATEMENTS) + len(DECISIONS)
        for said in STATEMENTS:
            statements += holdfast.add(
                SUBJECT, said.text, kind=said.kind, strength=said.strength, scope=said.scope,
                split=False,
            )  # fmt: skip
            if progress:
                progress(len(statements), total)
        decisions = [
            holdfast.decide(
                SUBJECT, situation=case.situation, choice=case.choice, reason=case.reason
            )
            for case in DECISIONS
        ]
        asked = [_asked(prompt, holdfast.retrieve(SUBJECT, prompt)) for prompt in PROMPTS]
        signed = holdfast.audit.checkpoint()
        return Outcome(
            subject=SUBJECT,
            who=WHO,
            statements=statements,
            decisions=decisions,
            prompts=asked,
            replay=holdfast.replay(str(asked[0].evidence_id)),
            verification=holdfast.verify(checkpoint=signed.note),
            kept=keep,
        )


def _asked(prompt: str, found: Retrieval) -> Asked:
    return Asked(
        prompt=prompt,
        status=found.status,
        injected=list(found.injected),
        near_misses=near_misses(found.candidates, NEAR_MISSES),
        considered=len(found.candidates),
        context=found.context,
        evidence_id=found.evidence_id,
    )


@contextmanager
def _directory(keep: Path | None) -> Generator[tuple[Path, dict[str, Any]]]:
    """Give the data directory and how to open it; a throwaway one has a throwaway key."""
    if keep is not None:
        if keep.exists() and (not keep.is_dir() or any(keep.iterdir())):
            raise InvalidInputError(f"{keep} is not empty; give --keep a new directory")
        yield keep, {}
        return
    from ..retrieval.settings import Settings

    path = Path(tempfile.mkdtemp(prefix="holdfast-demo-"))
    try:
        yield path / "data", {"settings": Settings.load(path / "data", key_file=path / "key")}
    finally:
        shutil.rmtree(path, ignore_errors=True)


def show(page: Page, outcome: Outcome) -> None:
    """Lay the demo out for a person."""
    always = [s for s in outcome.statements if s.scope == "always"]
    page.line(f"{outcome.who}.", "title")
    page.line(
        f"She told Holdfast {len(outcome.statements)} things in her own words and "
        f"{len(outcome.decisions)} decisions. These {len(always)} go with every request:"
    )
    page.line()
    for statement in always:
        page.entry("always", statement.text, mark_style="good")
    for number, asked in enumerate(outcome.prompts, 1):
        page.line()
        _show_prompt(page, number, asked)
    page.line()
    page.line("What the model is given with the first prompt", "title")
    page.block(outcome.prompts[0].context, indent=8)
    page.line()
    page.line("Can it be checked?", "title")
    replay = outcome.replay
    page.entry(
        "replay",
        "the first retrieval, done again from its evidence: the same scores, verdicts and bytes"
        if replay.same
        else str(replay),
        mark_style="good" if replay.same else "bad",
    )
    page.entry(
        "ledger", str(outcome.verification), mark_style="good" if outcome.verification else "bad"
    )
    page.line()
    _show_next(page, outcome)


def _show_prompt(page: Page, number: int, asked: Asked) -> None:
    page.entry(str(number), asked.prompt, style="title", mark_style="title", mark_width=1, gap=2)
    topical = asked.topical
    for candidate in topical:
        write_candidate(page, candidate, ids=False)
    if not topical:
        page.entry("—", f"none of {asked.considered} statements bears on this", style="dim")
    if asked.near_misses:
        page.line("not injected, nearest first:", "dim", indent=8)
    for candidate in asked.near_misses:
        write_candidate(page, candidate, ids=False)
    page.line(f"evidence {asked.evidence_id}", "dim", indent=8)


def _show_next(page: Page, outcome: Outcome) -> None:
    page.line("Try next", "title")
    first = outcome.prompts[0].evidence_id
    if outcome.kept:
        page.line(f"holdfast audit show {first} --data {outcome.kept}", indent=2)
        page.line(f"holdfast list --subject {outcome.subject} --data {outcome.kept}", indent=2)
    page.line('holdfast add "Be blunt with me. I never eat nuts."', indent=2)
    page.line('holdfast query "Can I eat the baklava they serve here?"', indent=2)
    if not outcome.kept:
        page.line("holdfast demo --keep tove && holdfast list --subject tove --data tove", indent=2)
