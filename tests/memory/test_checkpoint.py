"""A checkpoint is what C2SP's signed-note and tlog-checkpoint say, and nothing looser."""

import base64
import hashlib

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from holdfast.memory.canonical import Rejected
from holdfast.memory.checkpoint import (
    MOST_SIGNATURES,
    Checkpoint,
    VerifierKey,
    decode,
    encode,
    read_checkpoint,
    read_key,
    read_number,
    sign,
    verifier_key,
)

SEED = bytes(range(32))
ORIGIN = "holdfast/0123"
ROOT = hashlib.sha256(b"root").digest()
KEY = verifier_key(ORIGIN, SEED)
SIGNED = sign(ORIGIN, SEED, 42, ROOT)


def noted(text: str, name: str = ORIGIN, seed: bytes = SEED) -> str:
    """Sign any text as a note."""
    signature = Ed25519PrivateKey.from_private_bytes(seed).sign(text.encode())
    return f"{text}\n— {name} {encode(verifier_key(name, seed).hint + signature)}\n"


def typed(public: bytes, kind: int = 1) -> str:
    """Write a public key with the number of its type in front."""
    return base64.b64encode(bytes([kind]) + public).decode()


def test_a_checkpoint_reads_back_as_it_was_signed() -> None:
    assert sign(ORIGIN, SEED, 42, ROOT) == SIGNED
    assert read_checkpoint(SIGNED.note, KEY) == SIGNED == Checkpoint(ORIGIN, 42, ROOT, SIGNED.note)
    text, _, signature = SIGNED.note.rpartition("\n\n")
    assert text == f"{ORIGIN}\n42\n{base64.b64encode(ROOT).decode()}"
    assert signature.startswith(f"— {ORIGIN} ")
    assert signature.endswith("\n")


def test_the_specifications_own_note_and_key_are_read() -> None:
    """The example of C2SP signed-note: its hint is that of its key."""
    public = Ed25519PrivateKey.from_private_bytes(SEED).public_key().public_bytes_raw()
    hint = hashlib.sha256(b"example.com/log\n\x01" + public).digest()[:4]
    written = f"example.com/log+{hint.hex()}+{typed(public)}"
    assert str(VerifierKey("example.com/log", public)) == written
    assert read_key(written) == read_key(f"  {written}\n") == VerifierKey("example.com/log", public)


def test_the_hint_depends_on_name_type_and_key() -> None:
    assert KEY.hint == hashlib.sha256(ORIGIN.encode() + b"\n\x01" + KEY.public).digest()[:4]


def with_line(line: str) -> str:
    return SIGNED.note + line + "\n"


def test_signatures_of_others_are_left_aside() -> None:
    witness = noted("other text\n", "witness.example/w", bytes(32)).rpartition("\n\n")[2]
    assert read_checkpoint(SIGNED.note + witness, KEY).size == 42
    same_name = verifier_key(ORIGIN, bytes(32))
    foreign = f"— {ORIGIN} {encode(same_name.hint + bytes(64))}"
    assert read_checkpoint(with_line(foreign), KEY).size == 42
    before = SIGNED.note.replace("\n\n", "\n\n" + witness)
    assert read_checkpoint(before, KEY).size == 42


def test_a_wrong_signature_of_the_key_rejects_the_note_beside_a_right_one() -> None:
    wrong = f"— {ORIGIN} {encode(KEY.hint + bytes(64))}"
    for note in (with_line(wrong), SIGNED.note.replace("\n\n", f"\n\n{wrong}\n")):
        with pytest.raises(Rejected, match="not that of the key"):
            read_checkpoint(note, KEY)


def test_a_note_with_too_many_signatures_is_rejected_unread() -> None:
    line = f"— witness.example/w {encode(bytes(68))}\n"
    assert read_checkpoint(SIGNED.note + line * (MOST_SIGNATURES - 1), KEY).size == 42
    with pytest.raises(Rejected, match="too many signatures"):
        read_checkpoint(SIGNED.note + line * MOST_SIGNATURES, KEY)


@pytest.mark.parametrize("place", range(0, len(SIGNED.note), 3))
def test_no_sign_of_a_note_can_be_altered(place: int) -> None:
    other = "x" if SIGNED.note[place] != "x" else "y"
    with pytest.raises(Rejected):
        read_checkpoint(SIGNED.note[:place] + other + SIGNED.note[place + 1 :], KEY)


@pytest.mark.parametrize("length", range(0, len(SIGNED.note), 5))
def test_a_note_that_was_cut_off_is_rejected(length: int) -> None:
    with pytest.raises(Rejected):
        read_checkpoint(SIGNED.note[:length], KEY)


ROOT_TEXT = encode(ROOT)


@pytest.mark.parametrize(
    ("note", "words"),
    [
        ("", "no signed note"),
        ("\n\n", "line of a signature is damaged|no base64"),
        (SIGNED.note.rstrip("\n"), "no signed note"),
        (SIGNED.note.replace("\n\n", "\n"), "no signed note"),
        (SIGNED.note + "\n", "damaged|no signed note"),
        (SIGNED.note.replace("42", "4\t2"), "no signed note"),
        (SIGNED.note.replace("\n", "\r\n"), "no signed note"),
        (SIGNED.note.replace("— ", "- "), "damaged"),
        (with_line("— nobody"), "no base64|damaged"),
        (with_line("— no body here"), "a signature is no base64"),
        (with_line(f"— no+body {encode(bytes(68))}"), "damaged"),
        (with_line(f"—  {encode(bytes(68))}"), "no base64|damaged"),
        (with_line(f"— short {encode(bytes(4))}"), "damaged"),
        (with_line("— letters !!!!"), "no base64"),
        (with_line(f"— n\u00a0b {encode(bytes(68))}"), "damaged"),
        (noted(f"{ORIGIN}\n42\n"), "origin, a size and a root"),
        (noted(f"{ORIGIN}\n42\n\n{ROOT_TEXT}\n"), "origin, a size and a root"),
        (noted(f"\n42\n{ROOT_TEXT}\n"), "origin, a size and a root"),
        (noted(f"{ORIGIN}\n042\n{ROOT_TEXT}\n"), "size is no whole number"),
        (noted(f"{ORIGIN}\n-42\n{ROOT_TEXT}\n"), "size is no whole number"),
        (noted(f"{ORIGIN}\n4.2\n{ROOT_TEXT}\n"), "size is no whole number"),
        (noted(f"{ORIGIN}\n+42\n{ROOT_TEXT}\n"), "size is no whole number"),
        (noted(f"{ORIGIN}\n٤٢\n{ROOT_TEXT}\n"), "size is no whole number"),
        (noted(f"{ORIGIN}\n{10**15}\n{ROOT_TEXT}\n"), "size is no whole number"),
        (noted(f"{ORIGIN}\n42\n{ROOT_TEXT[:-4]}\n"), "not 32 bytes"),
        (noted(f"{ORIGIN}\n42\n{ROOT_TEXT} \n"), "the root is no base64|another spelling"),
        (noted(f"{ORIGIN}\n42\n{'-' * 44}\n"), "the root is no base64"),
        (noted(f"holdfast/another\n42\n{ROOT_TEXT}\n"), "one of the log holdfast/another"),
        (noted(f"{ORIGIN}\n42\n{ROOT_TEXT}\n", "holdfast/another"), "not signed by"),
        (noted(f"{ORIGIN}\n42\n{ROOT_TEXT}\n", seed=bytes(32)), "not signed by"),
    ],
)
def test_a_malformed_note_is_rejected_and_says_why(note: str, words: str) -> None:
    with pytest.raises(Rejected, match=words):
        read_checkpoint(note, KEY)


def test_a_signature_of_another_scheme_may_be_short() -> None:
    assert read_checkpoint(with_line(f"— other {encode(bytes(5))}"), KEY).size == 42


def test_extension_lines_are_read_over() -> None:
    note = noted(f"{ORIGIN}\n42\n{ROOT_TEXT}\nan extension\n")
    assert read_checkpoint(note, KEY).size == 42
    assert read_checkpoint(noted(f"{ORIGIN}\n0\n{ROOT_TEXT}\n"), KEY).size == 0
    assert read_checkpoint(noted(f"{ORIGIN}\n{10**15 - 1}\n{ROOT_TEXT}\n"), KEY).size == 10**15 - 1


GOOD = str(KEY)
HINT = GOOD.split("+")[1]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no base64|no Ed25519 key"),
        ("name", "no Ed25519 key"),
        (GOOD[:-4], "no base64|no Ed25519 key"),
        (GOOD.replace(HINT, "00000000"), "copy it whole"),
        (GOOD.replace(HINT, HINT.upper()), "copy it whole"),
        (GOOD.replace(ORIGIN, "another"), "copy it whole"),
        (f"{ORIGIN}+{HINT}+{typed(KEY.public, 2)}", "no Ed25519 key"),
        (f"{ORIGIN}+{HINT}+{encode(KEY.public)}", "no Ed25519 key"),
        (f"{ORIGIN}+{HINT}+{typed(KEY.public + b'x')}", "no Ed25519 key"),
        (f"+{HINT}+{typed(KEY.public)}", "no Ed25519 key"),
        (f"a b+{HINT}+{typed(KEY.public)}", "no Ed25519 key"),
    ],
)
def test_what_is_no_key_is_refused(text: str, words: str) -> None:
    with pytest.raises(Rejected, match=words):
        read_key(text)


def test_base64_has_one_spelling() -> None:
    assert decode("QQ==", "it") == b"A"
    for text in ("QR==", "QQ", "QQ= =", "QQ==\n", "Q\u00c4==", "QQ=="[:3]):
        with pytest.raises(Rejected, match=r"it is (no base64|base64 in another spelling)"):
            decode(text, "it")


def test_a_whole_number_has_one_spelling() -> None:
    assert [read_number(text, "it") for text in ("0", "7", "123456789012345")] == [
        0, 7, 123456789012345,
    ]  # fmt: skip
    for text in ("", "00", "07", "1_0", " 1", "1234567890123456", "x", "１"):
        with pytest.raises(Rejected, match="it is no whole number"):
            read_number(text, "it")
