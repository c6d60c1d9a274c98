"""The package as others get it: built, installed beside a consumer with names of its own, used."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGED = ("memory", "retrieval", "server")
PROGRAM = """
import memory, server.own
from holdfast import Holdfast, __version__
import holdfast.memory, holdfast.server

assert memory.OWNER == server.own.OWNER == "consumer"
assert holdfast.memory.__name__ == "holdfast.memory"
with Holdfast.open() as hf:
    hf.add("ada", "I never eat nuts.", split=False)
    found = hf.retrieve("ada", "Can I eat nuts?", threshold=0.0)
    assert "I never eat nuts." in found.context, found
    assert found.evidence_id
    assert hf.replay(found.evidence_id) and hf.verify()
print(holdfast.__file__)
"""


def run(*command: object, cwd: Path, **variables: str) -> str:
    """Run a command without this process's own import settings, and give its output."""
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "COV"))
    }
    done = subprocess.run(
        [str(part) for part in command], cwd=cwd, env={**kept, **variables},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what the package is built from: building leaves files behind."""
    copy = tmp_path_factory.mktemp("source") / "holdfast"
    copy.mkdir()
    for name in ("__init__.py", "py.typed", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    for folder in (*PACKAGED, "tests"):
        shutil.copytree(ROOT / folder, copy / folder, ignore=shutil.ignore_patterns("__pycache__"))
    return copy


@pytest.fixture(scope="module")
def wheel(source: Path) -> Path:
    pip = (sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation")
    run(*pip, "--wheel-dir", source.parent, source, cwd=source.parent)
    (built,) = source.parent.glob("*.whl")
    return built


@pytest.fixture
def environment(tmp_path: Path) -> Path:
    """A fresh environment that finds the dependencies of this one, but not its holdfast."""
    venv.create(tmp_path / "env", with_pip=False, symlinks=True)
    (site,) = (tmp_path / "env").glob("lib/python*/site-packages")
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return tmp_path / "env"


@pytest.fixture
def consumer(tmp_path: Path) -> Path:
    """Somebody's project, with a module and a package named like folders of Holdfast."""
    project = tmp_path / "consumer"
    (project / "server").mkdir(parents=True)
    (project / "memory.py").write_text('OWNER = "consumer"\n')
    (project / "server" / "__init__.py").write_text("")
    (project / "server" / "own.py").write_text('OWNER = "consumer"\n')
    (project / "program.py").write_text(PROGRAM)
    return project


def test_the_wheel_holds_what_is_used_and_nothing_else(wheel: Path):
    names = zipfile.ZipFile(wheel).namelist()
    for needed in (
        "holdfast/__init__.py",
        "holdfast/py.typed",
        "holdfast/memory/migrations/versions/0001_first.py",
        "holdfast/memory/migrations/versions/0002_ledger.py",
        "holdfast/memory/verifier.py",
        "holdfast/retrieval/model/model.onnx",
        "holdfast/retrieval/model/tokenizer.json",
        "holdfast/retrieval/model/anchors.npy",
        "holdfast/retrieval/model/heads.npz",
        "holdfast/retrieval/model/embedder.json",
        "holdfast/server/cli.py",
        "holdfast/server/static/htmx.LICENSE",
    ):
        assert needed in names
    drawn = {
        f"holdfast/{path.relative_to(ROOT)}"
        for folder in ("templates", "static")
        for path in (ROOT / "server" / folder).iterdir()
    }
    assert drawn <= set(names), "a file of the page is missing in pyproject.toml, package-data"
    packaged = {
        f"holdfast/{path.relative_to(ROOT)}"
        for folder in PACKAGED
        for path in (ROOT / folder).rglob("*.py")
    }
    assert packaged <= set(names), "a folder is missing in pyproject.toml, tool.setuptools.packages"
    tops = {name.split("/")[0].split("-")[0] for name in names}
    assert tops == {"holdfast"}
    seconds = {name.split("/")[1] for name in names if name.startswith("holdfast/")}
    assert seconds == {"__init__.py", "py.typed", *PACKAGED}


@pytest.mark.parametrize("way", ["wheel", "editable"])
def test_an_install_works_beside_a_consumers_own_names(
    way: str, wheel: Path, source: Path, environment: Path, consumer: Path, tmp_path: Path
):
    python = environment / "bin" / "python"
    pip = (sys.executable, "-m", "pip", "--python", python, "install", "-q", "--no-deps")
    if way == "wheel":
        run(*pip, "--no-index", wheel, cwd=tmp_path)
    else:
        run(*pip, "--no-index", "--no-build-isolation", "--editable", source, cwd=tmp_path)
    data = str(tmp_path / "data")
    where = run(python, "program.py", cwd=consumer, HOLDFAST_DATA=data).strip()
    assert Path(where).is_relative_to(environment if way == "wheel" else source)
    script = environment / "bin" / "holdfast"
    assert "I never eat nuts." in run(
        script, "list", "--subject", "ada", "--data", data, cwd=consumer
    )
    bundle, verifier = tmp_path / "bundle.json", tmp_path / "verifier.py"
    (evidence,) = json.loads(run(script, "audit", "list", "--data", data, "--json", cwd=consumer))
    make = (script, "audit", "bundle", evidence["id"], "--out", bundle, "--data", data, "--json")
    key = json.loads(run(*make, cwd=consumer))["key"]
    run(script, "audit", "verifier", verifier, cwd=consumer)
    alone = run(python, "-I", verifier, bundle, "--key", key, cwd=tmp_path)
    assert alone.startswith("VERIFIED"), "the verifier that an install writes out works alone"
