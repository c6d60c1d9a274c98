"""Mutation testing of the verifier: every mutant of its modules must fail some test.

    make mutants

The modules that make up the stand-alone verifier are copied into a project of their own,
with their tests, and mutmut changes them one place at a time. What survives is printed, and
the exit status is 1. Changes of words alone (messages, help, types in casts) alter nothing
that is decided: they are printed to be looked through, and do not count.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MODULES = ("canonical", "merkle", "checkpoint", "leaf", "published", "verifier")
CONFIG = "[mutmut]\npaths_to_mutate=holdfast/memory\ntests_dir=tests\nalso_copy=holdfast\n"
WORDS = re.compile(r'f?"(?:[^"\\]|\\.)*"|\bNone\b')


def main() -> int:
    """Make the mutants, try them, print the survivors."""
    with tempfile.TemporaryDirectory() as folder:
        project = Path(folder)
        _prepare(project)
        program = [sys.executable, "-m", "mutmut"]
        environment = os.environ | {"HOLDFAST_TEST_TREES": "40"}
        done = subprocess.run([*program, "run"], cwd=project, env=environment, check=False)
        if done.returncode:
            return done.returncode
        changed = list(_survivors(program, project))
    survivors = [each for each in changed if not _is_of_words(each)]
    words = [each for each in changed if _is_of_words(each)]
    print("\n\n".join("\n".join(each) for each in [*words, *survivors]))  # noqa: T201
    print(f"\n{len(words)} changes of words alone; {len(survivors)} mutants survive")  # noqa: T201
    return 1 if survivors else 0


def _prepare(project: Path) -> None:
    memory, tests = project / "holdfast" / "memory", project / "tests"
    memory.mkdir(parents=True)
    tests.mkdir()
    shutil.copy(ROOT / "__init__.py", project / "holdfast")
    for name in ("__init__", *MODULES):
        shutil.copy(ROOT / "memory" / f"{name}.py", memory)
    for name in ("canonical", "merkle", "checkpoint", "verifier", "published"):
        shutil.copy(ROOT / "tests" / "memory" / f"test_{name}.py", tests)
    shutil.copy(ROOT / "tests" / "memory" / "merkle_vectors.json", tests)
    (project / "setup.cfg").write_text(CONFIG, encoding="utf-8")


def _survivors(program: list[str], project: Path) -> Iterator[list[str]]:
    """Give the changed lines of the mutants that no test noticed."""

    def said(*arguments: str) -> str:
        return subprocess.run(
            [*program, *arguments], cwd=project, capture_output=True, text=True, check=True
        ).stdout

    for line in said("results").splitlines():
        name, _, state = line.strip().partition(": ")
        if state == "survived":
            rows = said("show", name).splitlines()
            yield [row for row in rows if row[:1] in ("-", "+") and row[:3] not in ("---", "+++")]


def _is_of_words(changed: list[str]) -> bool:
    before = [WORDS.sub("", row[1:]) for row in changed if row[0] == "-"]
    return before == [WORDS.sub("", row[1:]) for row in changed if row[0] == "+"]


if __name__ == "__main__":
    raise SystemExit(main())
