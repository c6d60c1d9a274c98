import json
from pathlib import Path

import pytest
from conftest import open_with
from fakes import FakeEmbedder

from holdfast import ConfigurationError
from holdfast.retrieval.calibration import read_table


def test_the_shipped_table_rises_within_probabilities() -> None:
    table = read_table()
    assert list(table["totals"]) == sorted(set(table["totals"]))
    assert list(table["probabilities"]) == sorted(table["probabilities"])
    assert 0 <= table["probabilities"][0] <= table["probabilities"][-1] <= 1_000_000


@pytest.mark.parametrize(
    "content",
    [
        "",
        "no JSON",
        "[]",
        "{}",
        '{"totals": [1], "probabilities": [1]}',
        '{"totals": [1, 2], "probabilities": [1]}',
        '{"totals": [2, 1], "probabilities": [1, 2]}',
        '{"totals": [1, 1], "probabilities": [1, 2]}',
        '{"totals": [1, 2], "probabilities": [2, 1]}',
        '{"totals": [1, 2], "probabilities": [1, 2000000]}',
        '{"totals": ["a", 2], "probabilities": [1, 2]}',
        '{"totals": null, "probabilities": [1, 2]}',
    ],
)
def test_what_is_no_table_is_refused_by_name(tmp_path: Path, content: str) -> None:
    path = tmp_path / "table.json"
    path.write_text(content)
    with pytest.raises(ConfigurationError, match="table"):
        read_table(path)


def test_a_missing_table_is_refused_and_the_fix_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"python -m training\.calibrate"):
        read_table(tmp_path / "absent.json")


def test_a_table_that_is_set_is_the_one_that_counts(tmp_path: Path) -> None:
    path = tmp_path / "table.json"
    path.write_text(json.dumps({"totals": [-1_000_000, 2_000_000], "probabilities": [7, 7]}))
    with open_with(FakeEmbedder(), tmp_path / "data", calibration=path) as holdfast:
        holdfast.add("ada", "I never eat nuts")
        found = holdfast.retrieve("ada", "nuts")
    assert [candidate.score for candidate in found.candidates] == [7e-06]
    assert found.status == "none"
