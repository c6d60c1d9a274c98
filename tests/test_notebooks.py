"""The notebooks, each from top to bottom: offline, without an error, every axis with its unit."""

import re
import runpy
from pathlib import Path
from typing import Any

import pytest

nbclient = pytest.importorskip("nbclient", reason="nbclient is not installed")
nbformat = pytest.importorskip("nbformat", reason="nbformat is not installed")
pytest.importorskip("ipykernel", reason="ipykernel is not installed")
pytest.importorskip("matplotlib", reason="matplotlib is not installed")
pytest.importorskip("litellm", reason="litellm is not installed")

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
NAMES = [
    "01_first_steps", "02_map_of_values", "03_why_this_was_injected", "04_choosing_thresholds",
    "05_any_model",
]  # fmt: skip
SAID = {
    "01_first_steps": [
        "one crumb of cashew",
        "<td style='text-align:left'>must</td>",
        "version 2: I never",
    ],
    "02_map_of_values": ["says again: Nobody on my team", "may revise: Phones", "pulls against:"],
    "03_why_this_was_injected": [
        ">the same<",
        "FAILED",
        "VERIFIED-ERASED",
        "her name in it: False",
    ],
    "04_choosing_thresholds": ["880 requests of their own persons", "At the defaults: F1"],
    "05_any_model": ["3 models, 1 context", "no model", "call.outcome"],
}
"""What a reader must see in each one's outputs."""
LARGEST_PICTURE = 120 * 1024
"""Bytes of a picture in the README."""
FOLDERS = ("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_RUNTIME_DIR", "MPLCONFIGDIR", "TMPDIR")

WATCH = """
import ipaddress, socket, sys
import matplotlib.figure, matplotlib.axes

_reached, _bare, _drawn = [], [], []

def _local(host):
    try:
        return host in (None, "", "localhost", b"localhost") or ipaddress.ip_address(
            host.decode() if isinstance(host, bytes) else host).is_loopback
    except ValueError:
        return False

def _watch(event, arguments):
    if event == "socket.connect" and arguments[0].family != socket.AF_UNIX:
        host = arguments[1][0]
    elif event == "socket.getaddrinfo":
        host = arguments[0]
    else:
        return
    if not _local(host):
        _reached.append(host)
        raise OSError(f"a notebook is offline, and this one reached for {host}")

sys.addaudithook(_watch)

def _named(axes, which):
    others = getattr(axes, f"get_shared_{which}_axes")().get_siblings(axes)
    return any("(" in getattr(each, f"get_{which}label")() for each in [axes, *others])

def _draw(figure, *arguments, _old=matplotlib.figure.Figure.draw, **how):
    _drawn.append(figure)
    for axes in figure.axes:
        bar = hasattr(axes, "_colorbar")
        for which in ("y",) if bar else ("x", "y"):
            if not _named(axes, which):
                _bare.append(f"{which} axis of {axes.get_title(loc='left') or axes}")
    return _old(figure, *arguments, **how)

matplotlib.figure.Figure.draw = _draw
"""
TELL = "print(sorted(set(map(str, _reached))), sorted(set(_bare)), len(set(map(id, _drawn))))"


def texts(notebook: Any) -> str:
    """Everything that the outputs say."""
    found: list[str] = []
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            found.append(output.get("text", ""))
            found += [v for k, v in output.get("data", {}).items() if k == "text/html"]
    return "\n".join(found)


def test_they_are_the_five_that_the_readme_names():
    assert [path.stem for path in NOTEBOOKS] == NAMES
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert all(f"notebooks/{name}.ipynb" in readme for name in NAMES)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_what_is_in_git_was_not_run(path: Path):
    strip = runpy.run_path(str(ROOT / "notebooks" / "strip.py"))["stripped"]
    text = path.read_text(encoding="utf-8")
    assert text == strip(text), "run: make notebooks-strip"
    assert '"image/png"' not in text


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_begins_with_its_number_and_ends_with_what_to_try_next(path: Path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    first, last = notebook.cells[0], notebook.cells[-1]
    assert first.source.startswith(f"# {int(path.stem[:2])}. ")
    assert last.cell_type == "markdown"
    assert last.source.startswith("## What to try next\n")
    for name in re.findall(r"\b(0\d_\w+)\.ipynb", "".join(c.source for c in notebook.cells)):
        assert name in NAMES


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
@pytest.mark.filterwarnings("default")  # of the packages that run notebooks
def test_it_runs_offline_from_top_to_bottom(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    for name in (
        "IPYTHONDIR",
        "JUPYTER_CONFIG_DIR",
        "JUPYTER_RUNTIME_DIR",
        "MPLCONFIGDIR",
        "TMPDIR",
    ):
        (tmp_path / name).mkdir()
        monkeypatch.setenv(name, str(tmp_path / name))
    monkeypatch.delenv("HOLDFAST_PICTURES", raising=False)
    notebook = nbformat.read(path, as_version=4)
    notebook.cells.insert(0, nbformat.v4.new_code_cell(WATCH))
    notebook.cells.append(nbformat.v4.new_code_cell(TELL))
    nbclient.NotebookClient(
        notebook, timeout=300, kernel_name="python3",
        resources={"metadata": {"path": str(path.parent)}},
    ).execute()  # fmt: skip
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            assert output.output_type != "error"
            assert output.get("name") != "stderr", f"{cell.source[:60]}: {output.text}"
    told = "".join(output.text for output in notebook.cells[-1].outputs)
    assert re.fullmatch(r"\[\] \[\] [1-9]\d*\n", told), told
    shown = texts(notebook)
    for phrase in SAID[path.stem]:
        assert phrase in shown
    assert not list((tmp_path / "TMPDIR").glob("holdfast-*")), "it cleans up after itself"


@pytest.mark.parametrize("name", ["map", "why"])
def test_the_readmes_pictures_are_small_and_made_by_a_notebook(name: str):
    picture = ROOT / "docs" / f"{name}.png"
    assert f"docs/{name}.png" in (ROOT / "README.md").read_text(encoding="utf-8")
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert picture.stat().st_size <= LARGEST_PICTURE
    makers = [
        p for p in NOTEBOOKS if f'keep(figure, \\"{name}\\")' in p.read_text(encoding="utf-8")
    ]
    assert len(makers) == 1
