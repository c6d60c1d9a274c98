"""The house rules that a reader relies on, held by tests: see CONTRIBUTING.md."""

import ast
import doctest
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ("memory", "retrieval", "server")
MODULES = sorted(
    path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py") if path.stem != "env"
)
NAMES = [
    ".".join(("holdfast", *path.relative_to(ROOT).with_suffix("").parts)).removesuffix(".__init__")
    for path in MODULES
    if not path.stem[0].isdigit()
]
LONGEST = 380  # lines of code; docstrings and blank lines are not counted
ENGINES = (
    "chromadb", "onnxruntime", "tokenizers", "sentencex", "filelock", "platformdirs", "rich",
    "opentelemetry",
)  # fmt: skip


def imports_of(path: Path) -> set[str]:
    """The top-level names that a file imports absolutely, wherever in it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.split(".")[0])
    return found


def test_the_root_holds_one_module_only():
    assert [path.name for path in ROOT.glob("*.py")] == ["__init__.py"]


def code_lines(path: Path) -> int:
    """How many lines are neither blank nor part of a docstring."""
    text = path.read_text(encoding="utf-8")
    documents = sum(
        each.end_lineno - each.lineno + 1
        for node in ast.walk(ast.parse(text))
        for each in (node.body if isinstance(getattr(node, "body", None), list) else ())
        if isinstance(each, ast.Expr)
        and isinstance(each.value, ast.Constant)
        and isinstance(each.value.value, str)
    )
    return sum(bool(line.strip()) for line in text.splitlines()) - documents


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_is_short_enough_to_read(path):
    assert code_lines(path) <= LONGEST


@pytest.mark.parametrize("engine", ENGINES)
def test_a_third_party_engine_has_one_import_site(engine):
    importers = [str(path.relative_to(ROOT)) for path in MODULES if engine in imports_of(path)]
    assert len(importers) == 1


def test_no_module_claims_a_global_name_of_its_own_folder():
    claimed = {*FOLDERS, "holdfast"}
    for path in (*MODULES, ROOT / "__init__.py"):
        assert not imports_of(path) & claimed, path


def test_the_folders_point_down():
    script = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run(
        [script, "--config", ROOT / "pyproject.toml", "--no-cache"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("name", NAMES)
def test_the_examples_in_docstrings_hold(name):
    assert doctest.testmod(importlib.import_module(name)).failed == 0


@pytest.mark.parametrize(
    "lock", sorted((ROOT / "requirements").glob("*.txt")), ids=lambda p: p.name
)
def test_a_lock_names_no_place_to_download_from(lock):
    lines = lock.read_text(encoding="utf-8").splitlines()
    assert not [line for line in lines if "://" in line or line.startswith("-")]


def test_every_dependency_has_its_reason_in_contributing():
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"].values()
    wanted = [*project["dependencies"], *(one for extra in extras for one in extra)]
    reasons = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    for requirement in wanted:
        name = requirement.split(">")[0].split("=")[0].split("[")[0]
        assert f"| {name} |" in reasons, f"CONTRIBUTING.md does not say why {name} is needed"


def test_importing_the_package_loads_nothing_heavy():
    heavy = "chromadb onnxruntime numpy sqlalchemy torch rich pydantic".split()
    done = subprocess.run(
        [sys.executable, "-c", "import sys, holdfast; print(*sys.modules)"],
        cwd="/", capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert not set(done.stdout.split()) & set(heavy)
