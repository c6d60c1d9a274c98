"""The programs in examples/, as they are, against a server with an upstream on loopback."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from upstreams import Upstream
from web import serving

from holdfast import Holdfast

EXAMPLES = Path(__file__).parent.parent / "examples"
NUTS = "I never eat nuts or Sicily's desserts."


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Holdfast, str, str]]:
    folder = tmp_path_factory.mktemp("examples")
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("XDG_CONFIG_HOME", str(folder / "config"))
        with (
            Upstream() as up,
            serving(folder / "data", upstream=f"{up.url}/v1", upstream_anthropic=up.url) as (
                hf,
                url,
            ),
        ):
            hf.add("ada", NUTS, scope="always")
            yield hf, url, hf.access.create("examples", role="app")[1]


def run(place: tuple[Holdfast, str, str], *command: str) -> str:
    _, url, key = place
    environment = {name: value for name, value in os.environ.items() if "proxy" not in name.lower()}
    environment |= {
        "HOLDFAST_URL": url, "HOLDFAST_KEY": key, "OPENAI_API_KEY": "sk-1",
        "ANTHROPIC_API_KEY": "sk-2", "MODEL": "echo",
    }  # fmt: skip
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("name", ["openai_client", "anthropic_client", "langchain_chat"])
def test_a_program_gets_answers_and_evidence(place: tuple[Holdfast, str, str], name: str) -> None:
    hf, before = place[0], len(place[0].evidence("ada", limit=None))
    said = run(place, sys.executable, str(EXAMPLES / f"{name}.py"))
    asked = 1 if name == "anthropic_client" else 2
    evidence = hf.evidence("ada", limit=None)[: len(hf.evidence("ada", limit=None)) - before]
    assert len(evidence) == asked
    assert f"evidence: {evidence[-1].id}" in said
    assert "Which desserts should I try in Sicily?" in said
    assert NUTS.rstrip(".") in said


def test_the_shell_script_adds_finds_and_asks(place: tuple[Holdfast, str, str]) -> None:
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    said = run(place, "sh", str(EXAMPLES / "curl.sh"))
    assert '"context":"<holdfast-values>' in said
    assert "x-holdfast-evidence: ev_" in said
    assert "May I eat the nut cake?" in said


def test_every_example_is_run_and_listed() -> None:
    names = {path.name for path in EXAMPLES.iterdir() if path.suffix in (".py", ".sh")}
    assert names == {
        "openai_client.py", "anthropic_client.py", "langchain_chat.py", "curl.sh"
    }  # fmt: skip
    listed = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    assert all(f"`{name}`" in listed for name in names)
