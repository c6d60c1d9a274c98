"""The installation's key: found, made once, guarded, and named when it is not the right one."""

import base64
import os
import stat
import sys
from pathlib import Path
from types import ModuleType

import pytest

from holdfast.memory.errors import (
    ConfigurationError,
    DamagedError,
    KeyUnavailableError,
    ReadOnlyError,
)
from holdfast.memory.keys import (
    KeySource,
    LocalKeys,
    add_to_file,
    from_file,
    from_hook,
    from_text,
    keep_only,
    key_name,
    write_durably,
    write_file,
)

ONE, TWO = bytes(range(32)), bytes(32)
B64, HEX = base64.b64encode(ONE).decode(), TWO.hex()


def test_what_is_wrapped_is_unwrapped_where_it_belongs_and_nowhere_else() -> None:
    keys = LocalKeys([ONE], "here")
    wrapped = keys.wrap(b"secret" * 5, "context")
    assert b"secret" not in wrapped
    assert keys.unwrap(wrapped, keys.current, "context") == b"secret" * 5
    assert keys.wrap(b"secret" * 5, "context") != wrapped
    for other in (wrapped[:-1], wrapped[1:], b"", bytes([wrapped[0] ^ 1]) + wrapped[1:]):
        with pytest.raises(DamagedError, match="altered"):
            keys.unwrap(other, keys.current, "context")
    with pytest.raises(DamagedError):
        keys.unwrap(wrapped, keys.current, "another context")


def test_the_first_key_wraps_and_the_others_still_unwrap() -> None:
    old = LocalKeys([TWO], "here")
    both = LocalKeys([ONE, TWO], "here")
    assert both.current == key_name(ONE)
    assert both.names == [key_name(ONE), key_name(TWO)]
    assert both.unwrap(old.wrap(b"x" * 32, "c"), old.current, "c") == b"x" * 32
    assert LocalKeys([ONE], "here").unwrap(both.wrap(b"y" * 32, "c"), both.current, "c")


def test_another_key_is_named_with_the_one_that_is_needed() -> None:
    with pytest.raises(KeyUnavailableError) as refused:
        LocalKeys([ONE], "the key file /k").unwrap(b"", key_name(TWO), "c")
    assert key_name(TWO) in str(refused.value)
    assert key_name(ONE) in str(refused.value)
    assert "the key file /k" in str(refused.value)
    assert "Nothing was changed" in str(refused.value)


def test_a_keys_name_does_not_tell_the_key() -> None:
    assert len(key_name(ONE)) == 16
    assert key_name(ONE) not in (ONE.hex()[:16], ONE.hex()[-16:])
    assert key_name(ONE) != key_name(TWO)


@pytest.mark.parametrize(
    "text",
    [B64, HEX, HEX.upper(), f"# a comment\n{B64} # newer\n{HEX}\n", f"{B64},{HEX}"],
)
def test_keys_are_read_as_base64_or_hexadecimal(text: str) -> None:
    held = from_text(text, "it")
    assert set(held.names) <= {key_name(ONE), key_name(TWO)}
    assert len(held.names) == text.count(B64) + text.lower().count(HEX)


@pytest.mark.parametrize(
    "text", ["", "\n# nothing\n", ",", "secret", B64[:-4], HEX + "00", f"{B64} x"]
)
def test_what_is_no_key_is_refused_without_being_shown(text: str) -> None:
    with pytest.raises(KeyUnavailableError) as refused:
        from_text(text, "HOLDFAST_MASTER_KEY")
    assert str(refused.value).startswith("HOLDFAST_MASTER_KEY holds")
    assert "secret" not in str(refused.value)
    assert B64[:12] not in str(refused.value)


def test_a_new_installation_gets_a_key_file_for_its_owner_only(tmp_path: Path) -> None:
    source = KeySource(folder=tmp_path / "config")
    made = source.open("inst", is_new=True)
    path = source.path("inst")
    assert path == tmp_path / "config" / "inst" / "installation.key"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert list(path.parent.iterdir()) == [path]
    assert source.open("inst", is_new=True).current == made.current
    assert source.open("inst", is_new=False).current == made.current
    assert source.open("other", is_new=True).current != made.current


def test_a_lost_key_file_is_never_made_anew_for_data_that_are_there(tmp_path: Path) -> None:
    source = KeySource(folder=tmp_path)
    with pytest.raises(KeyUnavailableError) as refused:
        source.open("inst", is_new=False)
    assert str(source.path("inst")) in str(refused.value)
    assert "HOLDFAST_KEY_FILE" in str(refused.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644, 0o601])
def test_a_key_file_that_others_may_read_is_refused_with_the_command_that_guards_it(
    tmp_path: Path, mode: int
) -> None:
    path = tmp_path / "key"
    write_file(path, [ONE])
    path.chmod(mode)
    with pytest.raises(KeyUnavailableError, match=f"chmod 600 {path}"):
        from_file(path)
    path.chmod(0o400)
    assert from_file(path).current == key_name(ONE)


@pytest.mark.parametrize("content", [b"\xff\xfe", b"", b"no key"])
def test_a_file_that_is_no_key_file_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "key"
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(KeyUnavailableError, match=str(path)):
        from_file(path)
    with pytest.raises(KeyUnavailableError, match="cannot be read"):
        from_file(tmp_path)


def test_the_environment_goes_before_the_hook_and_the_hook_before_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = ModuleType("kms_for_test")
    module.wrapper = LocalKeys([TWO], "the service")  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "kms_for_test", module)
    hook = KeySource(folder=tmp_path, hook="kms_for_test:wrapper")
    assert hook.open("i", is_new=False).current == key_name(TWO)
    both = KeySource(folder=tmp_path, hook="kms_for_test:wrapper", master_key=B64)
    assert both.open("i", is_new=False).current == key_name(ONE)
    assert not list(tmp_path.iterdir())
    assert (hook.is_file, both.is_file, KeySource(folder=tmp_path).is_file) == (False, False, True)


@pytest.mark.parametrize("name", ["nowhere_at_all:x", "json:nothing", "json", ":", "json:dumps"])
def test_a_hook_that_is_none_is_refused_by_name(name: str) -> None:
    with pytest.raises(ConfigurationError, match=f"HOLDFAST_KEY_HOOK={name}"):
        from_hook(name)


def test_checkpoints_lie_beside_the_key_unless_told_otherwise(tmp_path: Path) -> None:
    assert KeySource(folder=tmp_path).checkpoint_folder("i") == tmp_path / "checkpoints" / "i"
    own = KeySource(folder=tmp_path, file=Path("/keys/mine"))
    assert own.path("i") == Path("/keys/mine")
    assert own.checkpoint_folder("i") == Path("/keys/checkpoints/i")
    told = KeySource(folder=tmp_path, checkpoints=Path("/elsewhere"))
    assert told.checkpoint_folder("i") == Path("/elsewhere/i")


def test_a_key_file_is_added_to_in_front_and_cut_to_one_that_it_holds(tmp_path: Path) -> None:
    path = tmp_path / "key"
    write_file(path, [ONE])
    add_to_file(path)
    new, *rest = from_file(path).names
    assert rest == [key_name(ONE)]
    assert new != key_name(ONE)
    with pytest.raises(KeyUnavailableError, match=f"{key_name(TWO)}.*is not in.*No key was drop"):
        keep_only(path, key_name(TWO))
    assert from_file(path).names == [new, *rest]
    keep_only(path, new)
    assert from_file(path).names == [new]
    write_file(path, [TWO], replace=False)
    assert from_file(path).names == [new]


def test_a_small_file_is_written_whole_or_left_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "sub" / "file"
    write_durably(path, "one")
    assert path.read_text("utf-8") == "one"

    def refuse(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", refuse)
        with pytest.raises(Exception, match="no space is left"):
            write_durably(path, "two")
    assert path.read_text("utf-8") == "one"
    assert [each.name for each in path.parent.iterdir()] == ["file"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written_to_is_named(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(ReadOnlyError, match=str(tmp_path)):
        write_durably(tmp_path / "file", "x")
