import pytest

from holdfast.memory.identifiers import ALPHABET, is_id, new_id, new_key, quoted


def test_ids_are_of_signs_that_can_be_read_aloud_and_differ() -> None:
    ids = [new_id("st") for _ in range(2000)]
    assert len(set(ids)) == 2000
    assert all(id_.startswith("st_") and len(id_) == 15 for id_ in ids)
    assert set("".join(id_[3:] for id_ in ids)) == set(ALPHABET)
    assert len(ALPHABET) == len(set(ALPHABET)) == 32
    assert not set(ALPHABET) & set("01lo")
    assert len(new_id("ev", 26)) == 29
    assert all(map(is_id, [*ids, new_id("ev", 26)]))


def test_keys_say_nothing_and_differ() -> None:
    keys = {new_key() for _ in range(2000)}
    assert len(keys) == 2000
    assert all(len(bytes.fromhex(key)) == 16 for key in keys)


@pytest.mark.parametrize(
    "value", ["", "st_", "st_\0", "I never eat nuts", "st_x y", "\ud800", "st_x\n", None, 5]
)
def test_what_has_not_the_form_of_an_id_is_none_and_is_not_quoted(value: object) -> None:
    assert not is_id(value)
    assert quoted(value) == "with such an id"
    assert quoted("st_7k2m9qx4hd3w") == "'st_7k2m9qx4hd3w'"
