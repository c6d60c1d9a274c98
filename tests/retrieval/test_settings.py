from pathlib import Path
from typing import Any

import pytest

from holdfast import ConfigurationError, Settings
from holdfast.memory.places import data_directory


def toml(folder: Path, text: str) -> Path:
    (folder / "holdfast.toml").write_text(text, encoding="utf-8")
    return folder


def test_arguments_go_before_the_environment_and_that_before_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    toml(tmp_path, "limit = 2\nbudget_tokens = 20\nalways_budget_tokens = 200\n")
    monkeypatch.setenv("HOLDFAST_LIMIT", "3")
    monkeypatch.setenv("HOLDFAST_BUDGET_TOKENS", "30")
    found = Settings.load(tmp_path, limit=4)
    assert (found.limit, found.budget_tokens, found.always_budget_tokens) == (4, 30, 200)
    assert found.placement == "user"
    assert found.data == tmp_path


def test_the_data_directory_comes_from_the_argument_or_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOLDFAST_DATA", str(tmp_path / "a"))
    assert Settings.load().data == tmp_path / "a"
    assert Settings.load(tmp_path / "b").data == tmp_path / "b"
    monkeypatch.delenv("HOLDFAST_DATA")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "c"))
    assert Settings.load().data == data_directory()
    assert data_directory().name == "holdfast"


def test_a_home_directory_is_expanded_before_its_file_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "values").mkdir()
    toml(tmp_path / "values", "limit = 9\n")
    assert Settings.load("~/values").limit == 9


def test_a_directory_without_a_file_is_as_good(tmp_path: Path) -> None:
    assert Settings.load(tmp_path / "none") == Settings.load(tmp_path / "none")
    (tmp_path / "file").write_text("")
    assert Settings.load(tmp_path / "file").limit == Settings.load(tmp_path).limit


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("threshold_must", 1.5),
        ("threshold_should", -0.1),
        ("threshold_prefer", "often"),
        ("threshold_must", "nan"),
        ("limit", -1),
        ("limit", "some"),
        ("budget_tokens", -1),
        ("always_budget_tokens", 2.5),
        ("placement", "assistant"),
        ("lock_timeout", -1),
        ("cache_statements", -5),
        ("threads", -1),
    ],
)
def test_a_bad_value_is_an_error_that_names_the_setting_wherever_it_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: Any
) -> None:
    with pytest.raises(ConfigurationError, match=name):
        Settings.load(tmp_path, **{name: value})
    toml(tmp_path, f"{name} = {value!r}\n".replace("'", '"'))
    with pytest.raises(ConfigurationError, match=name):
        Settings.load(tmp_path)
    toml(tmp_path, "")
    monkeypatch.setenv(f"HOLDFAST_{name.upper()}", str(value))
    with pytest.raises(ConfigurationError, match=name):
        Settings.load(tmp_path)


def test_an_unknown_setting_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="limt"):
        Settings.load(tmp_path, limt=3)
    toml(tmp_path, "limt = 3\nbudgets = 4\n")
    with pytest.raises(ConfigurationError, match="unknown settings: budgets, limt"):
        Settings.load(tmp_path)


def test_other_variables_of_the_prefix_are_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOLDFAST_SUBJECT", "ada")
    assert Settings.load(tmp_path).limit == 5


@pytest.mark.parametrize("content", [b"limit = ", b"\xff\xfe", b"[[["])
def test_a_file_that_is_no_toml_is_an_error_that_names_it(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "holdfast.toml").write_bytes(content)
    with pytest.raises(ConfigurationError, match=r"holdfast\.toml cannot be read"):
        Settings.load(tmp_path)


def test_a_file_that_cannot_be_opened_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "holdfast.toml").mkdir()
    with pytest.raises(ConfigurationError, match=r"holdfast\.toml cannot be read"):
        Settings.load(tmp_path)


@pytest.mark.parametrize("path", ["", "nul\0", "lone \ud800", 5, b"bytes"])
def test_a_data_directory_that_no_file_system_takes_is_refused(path: Any) -> None:
    with pytest.raises(ConfigurationError, match="data directory"):
        Settings.load(path)


@pytest.mark.parametrize("name", ["key_file", "checkpoint_dir"])
def test_a_key_or_checkpoints_among_the_data_are_refused(tmp_path: Path, name: str) -> None:
    for inside in (tmp_path / "data", tmp_path / "data" / "x" / "y"):
        settings = Settings.load(tmp_path / "data", **{name: inside})
        with pytest.raises(ConfigurationError, match=f"{name} lies in the data directory"):
            _ = settings.key_source
    assert Settings.load(tmp_path / "data", **{name: tmp_path / "data-key"}).key_source


def test_a_key_in_the_file_beside_the_data_is_refused_and_not_repeated(tmp_path: Path) -> None:
    toml(tmp_path, 'master_key = "c2VjcmV0"\n')
    with pytest.raises(ConfigurationError, match="HOLDFAST_MASTER_KEY") as refused:
        Settings.load(tmp_path)
    assert "c2VjcmV0" not in str(refused.value)


def test_settings_do_not_show_the_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOLDFAST_MASTER_KEY", "c2VjcmV0")
    settings = Settings.load(tmp_path)
    assert settings.key_source.master_key == "c2VjcmV0"
    assert "c2VjcmV0" not in f"{settings!r} {settings} {settings.model_dump()}"


def test_settings_do_not_change_once_made(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="frozen"):
        Settings.load(tmp_path).limit = 3  # type: ignore[misc]
