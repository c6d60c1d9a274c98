"""The stand-alone verifier: a file that needs Python and cryptography, and agrees with Holdfast."""

import ast
import copy
import hashlib
import importlib.util
import io
import json
import random
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from holdfast.memory.canonical import canonical
from holdfast.memory.checkpoint import encode, sign, verifier_key
from holdfast.memory.leaf import Leaf, write_leaf
from holdfast.memory.merkle import hash_leaf
from holdfast.server.cli import cli

NEEDED = ("cryptography", "_cffi_backend", "cffi", "pycparser")
"""Cryptography, and what it may need."""
RUN = """
import runpy, sys
sys.path.append(sys.argv[1])
del sys.argv[:2]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
RUN_MANY = """
import contextlib, io, json, runpy, sys

forbidden = []


def watch(event, arguments):
    writes = event == "open" and arguments[1] is not None and set(arguments[1]) & set("wax+")
    of = event.split(".")[0]
    if writes or of in ("socket", "sqlite3", "subprocess", "os", "shutil", "urllib", "ctypes"):
        forbidden.append(event)


sys.path.append(sys.argv[1])
space = runpy.run_path(sys.argv[2], run_name="verifier")
tops = {name.split(".")[0] for name in sys.modules} - {"verifier", "__main__"}
sys.addaudithook(watch)
answers = []
for line in json.load(sys.stdin):
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            status = space["main"](line)
        except SystemExit as left:
            status = left.code
        except BaseException as error:
            status = type(error).__name__
    answers.append([status, out.getvalue(), err.getvalue()])
foreign = sorted(top for top in tops if top not in sys.stdlib_module_names)
print(json.dumps({"answers": answers, "foreign": foreign, "forbidden": forbidden}))
"""

Answer = tuple[Any, str, str]
"""Exit status (or the name of the exception that went through), standard output, error."""


def run(*words: object) -> Answer:
    """Run a command line of Holdfast."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        status = cli.run([str(word) for word in words])
    return status, out.getvalue(), err.getvalue()


def told(*words: object) -> str:
    status, out, err = run(*words)
    assert (status, err) == (0, "")
    return out


@dataclass
class Kit:
    """What an auditor has: the verifier, a Python with cryptography alone, what was given out."""

    folder: Path
    verifier: Path
    only: Path
    """Holds cryptography and what it needs, and nothing else."""

    def start(
        self, program: str, *words: object, stdin: str = ""
    ) -> subprocess.CompletedProcess[str]:
        """Start a Python that sees the standard library and cryptography, in an empty folder."""
        nowhere = self.folder / "nowhere"
        nowhere.mkdir(exist_ok=True)
        line = [sys.executable, "-I", "-S", "-B", "-X", "utf8", "-c", program, self.only]
        done = subprocess.run(
            [str(word) for word in (*line, self.verifier, *words)], capture_output=True, text=True,
            input=stdin, cwd=nowhere, env={}, encoding="utf-8", check=False,
        )  # fmt: skip
        assert list(nowhere.iterdir()) == [], "the verifier wrote something"
        return done

    def verify(self, *words: object) -> Answer:
        """Run the verifier as a process of its own."""
        done = self.start(RUN, *words)
        return done.returncode, done.stdout, done.stderr

    def verify_all(self, lines: Sequence[Sequence[object]]) -> list[Answer]:
        """Run the verifier's command many times in one process, watched by an audit hook."""
        asked = json.dumps([[str(word) for word in line] for line in lines])
        done = self.start(RUN_MANY, stdin=asked)
        assert done.returncode == 0, done.stderr
        found = json.loads(done.stdout)
        assert set(found["foreign"]) <= {*NEEDED, "_openssl"}
        assert found["forbidden"] == []
        return [(status, out, err) for status, out, err in found["answers"]]

    def path(self, name: str) -> Path:
        return self.folder / name

    def read(self, name: str) -> Any:
        return json.loads(self.path(name).read_text("utf-8"))

    def key(self) -> str:
        return self.path("log.key").read_text("utf-8").strip()


@pytest.fixture(scope="module")
def kit(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kit]:
    """Bundles and logs made by the real product, before an erasure and after it."""
    folder = tmp_path_factory.mktemp("kit")
    only = folder / "only"
    only.mkdir()
    for name in NEEDED:
        found = importlib.util.find_spec(name)
        if found and found.origin:
            origin = Path(found.origin)
            origin = origin.parent if origin.name == "__init__.py" else origin
            (only / origin.name).symlink_to(origin)
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("HOLDFAST_DATA", str(folder / "data"))
        patched.setenv("XDG_CONFIG_HOME", str(folder / "config"))
        patched.setenv("HOLDFAST_SUBJECT", "ada")
        patched.delenv("HOLDFAST_DEBUG", raising=False)
        patched.chdir(folder)
        told("audit", "verifier", "verifier.py")
        told("add", "I never eat nuts. I keep bees.")
        told("audit", "checkpoint", "--out", "kept.txt", "--key-out", "log.key")
        asked = json.loads(told("query", "Nuts?", "--threshold", "0", "--json"))["evidence_id"]
        told("add", "We serve no nuts.", "--subject", "acme")
        for name, how in (
            ("some", ()),
            ("all", ("--disclose-all",)),
            ("none", ("--disclose", "status")),
        ):
            told("audit", "bundle", asked, "--since", "kept.txt", "--out", f"{name}.json", *how)
        told("audit", "bundle", asked, "--out", "short.json")
        told("audit", "publish", "log")
        shutil.copytree("data", "fork/data")
        shutil.copytree("config", "fork/config")
        told("erase", "--yes")
        told("audit", "bundle", asked, "--since", "kept.txt", "--out", "erased.json")
        told("audit", "checkpoint", "--out", "newest.txt")
        patched.setenv("HOLDFAST_DATA", str(folder / "fork" / "data"))
        patched.setenv("XDG_CONFIG_HOME", str(folder / "fork" / "config"))
        for text in ("I keep wasps.", "I keep hornets.", "I keep newts."):
            told("add", text)
        told("audit", "checkpoint", "--out", "fork.txt")
        patched.setenv("HOLDFAST_DATA", str(folder / "other" / "data"))
        told("add", "I keep cats.")
        told("audit", "checkpoint", "--out", "other.txt", "--key-out", "other.key")
        yield Kit(folder, folder / "verifier.py", only)


def check_agreement(kit: Kit, lines: Sequence[Sequence[object]]) -> list[Answer]:
    """Run lines by both verifiers; they say the same, in the same words."""
    alone = kit.verify_all(lines)
    for line, answer in zip(lines, alone, strict=True):
        assert run("verify", *line) == answer, line
    return alone


# The file


def test_the_file_imports_nothing_but_the_standard_library_and_cryptography(kit: Kit) -> None:
    tree = ast.parse(kit.verifier.read_text("utf-8"))
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "an import from Holdfast is left"
            found.add(str(node.module).split(".")[0])
    assert {name for name in found if name not in sys.stdlib_module_names} == {"cryptography"}
    assert not found & {"socket", "ssl", "http", "urllib", "sqlite3", "subprocess", "os", "ctypes"}


def bound(node: ast.stmt) -> list[str]:
    """Give the names that a statement binds at the top level, imports apart."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return [node.name]
    targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
    return [each.id for t in targets if t for each in ast.walk(t) if isinstance(each, ast.Name)]


def test_no_name_of_the_joined_modules_hides_another(kit: Kit) -> None:
    tree = ast.parse(kit.verifier.read_text("utf-8"))
    names = [name for node in tree.body for name in bound(node)]
    assert len(names) > 80
    assert sorted(names) == sorted(set(names))
    imported: dict[str, set[str]] = {}
    for node in tree.body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            module = getattr(node, "module", None)
            for alias in node.names:
                name = alias.asname or alias.name.split(".")[0]
                imported.setdefault(name, set()).add(f"{module}.{alias.name}")
    assert not imported.keys() & set(names)
    assert {name: whence for name, whence in imported.items() if len(whence) > 1} == {}


def test_the_file_says_how_it_is_used_and_which_it_is(kit: Kit) -> None:
    text = kit.verifier.read_text("utf-8")
    document = ast.get_docstring(ast.parse(text)) or ""
    assert "python verifier.py BUNDLE --key KEY [--since CHECKPOINT] [--show]" in document
    assert text.startswith("#!/usr/bin/env python3\n")
    assert text.isprintable() or all(sign.isprintable() or sign == "\n" for sign in text)
    assert len(text.splitlines()) < 1100, "the page for auditors says: about 1,000 lines"
    status, out, _ = kit.verify("--help")
    assert (status, "--since FILE" in out) == (0, True)


# What it says, as a process of its own


@pytest.mark.parametrize(
    ("line", "status", "first"),
    [
        (["some.json", "--key", "log.key", "--since", "kept.txt"], 0, "VERIFIED under ORIGIN at 6"),
        (["all.json", "--key", "KEY"], 0, "VERIFIED under ORIGIN at 6 leaves"),
        (["erased.json", "--key", "KEY", "--since", "kept.txt"], 0, "VERIFIED-ERASED under ORIGIN"),
        (["log", "--key", "KEY", "--since", "kept.txt"], 0, "VERIFIED under ORIGIN at 6 leaves"),
        (["some.json", "--key", "other.key"], 1, "FAILED the checkpoint is not signed by"),
        (["some.json", "--key", "nothing"], 2, ""),
        (["nothing", "--key", "KEY"], 2, ""),
        (["verifier.py", "--key", "KEY"], 1, "FAILED this is no JSON"),
        (["some.json"], 2, ""),
        (["some.json", "--key", "KEY", "--nonsense"], 2, ""),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)  # fmt: skip
def test_the_process_says_a_verdict_and_exits_with_it(
    kit: Kit, line: list[str], status: int, first: str
) -> None:
    files = {"KEY": kit.key()} | {p.name: str(p) for p in kit.folder.iterdir()}
    line = [files.get(word, str(kit.path(word)) if word == "nothing" else word) for word in line]
    done, out, err = kit.verify(*line)
    origin = kit.key().split("+")[0]
    assert done == status
    assert out.startswith(first.replace("ORIGIN", origin))
    assert "Traceback" not in err
    assert (err == "") == (status != 2)


def test_it_shows_what_the_bundle_shows_and_no_more(kit: Kit) -> None:
    _, out, _ = kit.verify(kit.path("all.json"), "--key", kit.key(), "--show")
    for words in (
        '    subjects: ["ada"]',
        "I never eat nuts.",
        '"verdict": "injected"',
        "0 withheld",
    ):
        assert words in out
    _, out, _ = kit.verify(kit.path("some.json"), "--key", kit.key(), "--show")
    assert "    corpora: [{" in out
    assert '    candidate: {"dense": ' in out
    assert "nuts" not in out
    assert '"ada"' not in out
    _, out, _ = kit.verify(kit.path("none.json"), "--key", kit.key(), "--show")
    assert out.splitlines()[2:] == ['    status: "injected"']


# It says what Holdfast says


def test_both_verifiers_agree_on_what_holds_and_on_what_was_kept(kit: Kit) -> None:
    made = [kit.path(f"{name}.json") for name in ("some", "all", "none", "short", "erased")]
    made.append(kit.path("log"))
    lines = [[path, "--key", key] for path in made for key in (kit.key(), kit.path("log.key"))]
    answers = check_agreement(kit, lines)
    assert [status for status, _, _ in answers] == [0] * len(lines)
    assert [out.split(" ")[0] for _, out, _ in answers[::2]] == [
        "VERIFIED", "VERIFIED", "VERIFIED", "VERIFIED", "VERIFIED-ERASED", "VERIFIED",
    ]  # fmt: skip
    kept = ["kept.txt", "newest.txt", "fork.txt", "other.txt", "log.key"]
    lines = [
        [path, "--key", kit.key(), "--since", kit.path(note)] for path in made for note in kept
    ]
    answers = check_agreement(kit, lines)
    which = [(Path(str(line[0])).stem, Path(str(line[4])).stem) for line in lines]
    found = {each: out for each, (_, out, _) in zip(which, answers, strict=True)}
    held = {each for each, out in found.items() if out.startswith("VERIFIED")}
    assert held == {
        ("some", "kept"), ("all", "kept"), ("none", "kept"), ("log", "kept"), ("erased", "kept"),
    } | (held & {("erased", "newest")})  # fmt: skip
    assert "does not show that the log continues" in found["short", "kept"]
    assert "is no beginning of one of" in found["some", "newest"]
    assert "leaves" in found["erased", "fork"]
    assert "is not signed by" in found["some", "other"]
    assert "no signed note" in found["some", "log"]


def test_a_bundle_continues_its_own_checkpoint_whatever_it_was_made_for(kit: Kit) -> None:
    bundle = kit.read("erased.json")
    assert bundle["entries"][0]["proof"].endswith(kit.path("newest.txt").read_text("utf-8"))
    line = [kit.path("erased.json"), "--key", kit.key(), "--since", kit.path("newest.txt")]
    ((status, out, _),) = check_agreement(kit, [line])
    assert (status, out.split(" ")[0]) == (0, "VERIFIED-ERASED")


def test_both_verifiers_agree_on_what_is_no_bundle_and_no_key(kit: Kit, tmp_path: Path) -> None:
    good = kit.path("some.json").read_bytes()
    contents = [
        b"", b" ", b"{", b"[]", b"{}", b"null", b"5", b'"x"', b"NaN", b"\xff\xfe", b"\x00",
        b"\xef\xbb\xbf" + good, good + b"x", good[:-20], b"[" * 200_000, b'{"a":' * 200_000,
        b"1" * 10_000, b'{"format": "holdfast-bundle-1"}', b"[" + good + b"]",
    ]  # fmt: skip
    lines: list[list[object]] = []
    for number, content in enumerate(contents):
        path = tmp_path / f"{number}.json"
        path.write_bytes(content)
        lines.append([path, "--key", kit.key()])
    key = kit.key()
    name, hint, encoded = key.split("+", 2)
    other = kit.path("other.key").read_text("utf-8").strip()
    wrong: list[object] = [
        other, f"{name}+{other.partition('+')[2]}", f"{name}+{hint}+{encoded[:-2]}AA", key[:-1],
        f"{key}A", f"{name}++", f"+{hint}+{encoded}", f"{name}+00000000+{encoded}", "+",
        f"{name} +{hint}+{encoded}", kit.verifier, kit.path("some.json"),
    ]  # fmt: skip
    lines += [[kit.path("some.json"), "--key", each] for each in wrong]
    folder = tmp_path / "empty"
    folder.mkdir()
    lines.append([folder, "--key", key])
    answers = check_agreement(kit, lines)
    for line, (status, out, err) in zip(lines, answers, strict=True):
        assert (status, out[:7], err) == (1, "FAILED ", ""), line
        assert out.count("\n") == 1


@pytest.mark.parametrize("what", ["some.json", "log.key", "kept.txt"])
def test_a_file_that_is_missing_is_bad_use_and_no_verdict(kit: Kit, what: str) -> None:
    line: list[object] = ["some.json", "--key", "log.key", "--since", "kept.txt"]
    line = [kit.path(each) if "." in str(each) else each for each in line]
    assert kit.verify_all([line])[0][0] == 0
    line = [kit.path("gone") if each == kit.path(what) else each for each in line]
    for status, out, err in (*kit.verify_all([line]), run("verify", *line)):
        assert (status, out) == (2, "")
        assert f"{kit.path('gone')}" in err
        assert err.count("\n") == 1


# What was altered

Change = Callable[[Any], Any]


def places(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Give the path of every value in a document."""
    yield at
    items = (
        value.items()
        if isinstance(value, dict)
        else enumerate(value)
        if isinstance(value, list)
        else ()
    )
    for name, inner in items:
        yield from places(inner, (*at, name))


def changes_of(value: Any, dice: random.Random) -> Iterator[tuple[str, Any]]:
    """Give ways in which a value may be another."""
    for other in (None, 5, True, "x", [], {}, ["x"], {"x": 1}, [[]], 1.5):
        if other != value:
            yield f"{other!r}", other
    if isinstance(value, str):
        at = dice.randrange(len(value))
        sign = dice.choice([each for each in "A1b/=é \n" if each != value[at]])
        yield "another sign", value[:at] + sign + value[at + 1 :]
        yield "one bit", value[:at] + chr(ord(value[at]) ^ 1 << dice.randrange(7)) + value[at + 1 :]
        yield "a sign less", value[:at] + value[at + 1 :]
        yield "a sign more", value[:at] + sign + value[at:]
        yield "cut off", value[:at]
        yield "space behind", f"{value} "
        yield "a line behind", f"{value}\n"
        yield "twice", value * 2
        yield "in capitals", value.upper() if value != value.upper() else value.lower()
    if isinstance(value, list) and value:
        at = dice.randrange(len(value))
        yield "one less", value[:at] + value[at + 1 :]
        yield "one twice", [*value[: at + 1], *value[at:]]
        yield "one more", [*value, "x"]
    if isinstance(value, dict):
        for name in value:
            yield f"without {name}", {n: v for n, v in value.items() if n != name}


def altered(document: Any, at: tuple[Any, ...], value: Any) -> Any:
    """Give a copy of a document with another value at a place."""
    if not at:
        return value
    changed = copy.deepcopy(document)
    inside = changed
    for name in at[:-1]:
        inside = inside[name]
    inside[at[-1]] = value
    return changed


def is_harmless(name: str, at: tuple[Any, ...], before: Any, after: Any) -> bool:
    """Tell what may be another and yet nothing false is shown."""
    if at == ("key",) or (at == () and after == {n: before[n] for n in before if n != "key"}):
        return True  # the auditor's own key counts, not the one in the bundle
    if at[2:] == ("corpora",) and after == []:
        return True  # a bundle need not show the rows
    if len(at) == 2 and isinstance(after, dict):
        (gone,) = before.keys() - after.keys()
        return gone == "corpora" or before[gone] == []
    if at == ("entries",) and isinstance(after, list):
        # One entry may stand there twice; an erasure is proved without what it erased.
        return all(each in before for each in after) and (name != "erased" or before[1] in after)
    # A digest in another spelling is the same; see below.
    return at[2:3] == ("withheld",) and len(at) == 4 and before == "".join(after.split()).lower()


@pytest.mark.parametrize("name", ["some", "all", "none", "erased"])
def test_any_field_that_was_altered_fails_and_both_verifiers_say_why(
    kit: Kit, tmp_path: Path, name: str
) -> None:
    document = kit.read(f"{name}.json")
    dice = random.Random(f"altered {name}")
    lines: list[list[object]] = []
    cases: list[tuple[tuple[Any, ...], str, Any, Any]] = []
    for at in places(document):
        value: Any = document
        for step in at:
            value = value[step]
        found = list(changes_of(value, dice))
        most = 6 if isinstance(value, str) and len(at) > 3 else 99
        for how, other in dice.sample(found, min(most, len(found))):
            path = tmp_path / f"{len(cases)}.json"
            path.write_text(json.dumps(altered(document, at, other)), "utf-8")
            lines.append([path, "--key", kit.key(), "--since", kit.path("kept.txt")])
            cases.append((at, how, value, other))
    assert len(cases) > 100
    answers = check_agreement(kit, lines)
    wrong = [
        (at, how, out)
        for (at, how, before, after), (status, out, _) in zip(cases, answers, strict=True)
        if (status, out[:7]) != (1, "FAILED ") and not is_harmless(name, at, before, after)
    ]
    assert wrong == [], "\n".join(f"{a} {h} {o[:90]!r}" for a, h, o in wrong)


@pytest.mark.parametrize("spell", [str.upper, "{} ".format, "\n{}".format])
def test_a_digest_of_what_is_withheld_has_one_spelling(
    kit: Kit, tmp_path: Path, spell: Callable[[str], str]
) -> None:
    document = kit.read("some.json")
    withheld = document["entries"][0]["withheld"]
    withheld[0] = spell(withheld[0])
    path = tmp_path / "spelled.json"
    path.write_text(json.dumps(document), "utf-8")
    ((status, _, _),) = check_agreement(kit, [[path, "--key", kit.key()]])
    assert status == 1


def in_field(name: str, change: Change) -> Change:
    """Change a field's salt, name and value, and write it canonically again."""

    def do(entry: Any) -> None:
        for place, line in enumerate(entry["disclosed"]):
            parts = json.loads(line)
            if parts[1] == name:
                entry["disclosed"][place] = canonical(change(parts)).decode()
                return
        raise AssertionError(name)

    return do


def in_leaf(name: str, change: Change) -> Change:
    def do(entry: Any) -> None:
        leaf = json.loads(entry["leaf"])
        entry["leaf"] = canonical(leaf | {name: change(leaf[name])}).decode()

    return do


def in_proof(line: int, change: Callable[[str], str | None]) -> Change:
    def do(entry: Any) -> None:
        lines = entry["proof"].split("\n")
        lines[line : line + 1] = [new for new in [change(lines[line])] if new is not None]
        entry["proof"] = "\n".join(lines)

    return do


def turned(text: str) -> str:
    """Turn over one hexadecimal digit."""
    return f"{int(text[0], 16) ^ 1:x}{text[1:]}"


def exchanged(entry: Any) -> None:
    lines = entry["proof"].split("\n")
    lines[2], lines[3] = lines[3], lines[2]
    entry["proof"] = "\n".join(lines)


MEANT: dict[str, Change] = {
    **{f"the leaf's {n}": in_leaf(n, turned) for n in ("commit", "sealed")},
    "the leaf's id": in_leaf("id", lambda text: f"{text}x"),
    "the leaf's type": in_leaf("type", lambda _: "erasure"),
    "the leaf's time": in_leaf("time", lambda time: time + 1),
    "the leaf's version": in_leaf("v", lambda _: 2),
    **{
        f"the value of {name}": in_field(name, lambda parts: [*parts[:2], "x"])
        for name in ("format", "versions", "as_of", "embedder", "corpora", "policy", "candidates",
                     "injected", "status", "chain", "subjects", "request", "segments", "terms",
                     "contexts", "context", "context_sha256")
    },
    "a salt": in_field("status", lambda parts: [encode(bytes(32)), *parts[1:]]),
    "a name": in_field("status", lambda parts: [parts[0], "state", parts[2]]),
    "a threshold": in_field("policy", lambda parts: [*parts[:2], parts[2] | {"limit": 4}]),
    "a field is withheld by another digest": lambda entry: entry["withheld"].append("0" * 64),
    "the row of another statement": lambda entry: entry["corpora"][0].reverse(),
    "a row less": lambda entry: entry["corpora"][0].pop(),
    "the form of the proof": in_proof(0, lambda text: text.replace("v1", "v2")),
    "the index": in_proof(1, lambda text: f"index {int(text.split()[1]) - 1}"),
    "an index outside": in_proof(1, lambda _: "index 6"),
    "a hash of the proof": in_proof(2, lambda _: encode(bytes(32))),
    "a hash less": in_proof(2, lambda _: None),
    "a hash more": in_proof(2, lambda text: f"{text}\n{text}"),
    "hashes in another order": exchanged,
    "the signed size": in_proof(-5, lambda size: str(int(size) + 1)),
    "the signed root": in_proof(-4, lambda _: encode(bytes(32))),
    "the origin": in_proof(-6, lambda text: f"{text[:-1]}0"),
    "the signature": in_proof(-2, lambda text: f"{text[:-9]}AAAAAAAA="),
    "no signature": in_proof(-2, lambda _: None),
}  # fmt: skip


def test_what_somebody_who_knows_the_form_alters_fails_too(kit: Kit, tmp_path: Path) -> None:
    lines: list[list[object]] = []
    for number, change in enumerate(MEANT.values()):
        document = kit.read("all.json")
        before = copy.deepcopy(document)
        change(document["entries"][0])
        assert document != before
        path = tmp_path / f"{number}.json"
        path.write_text(json.dumps(document), "utf-8")
        lines.append([path, "--key", kit.key()])
    for what, (status, out, _) in zip(MEANT, check_agreement(kit, lines), strict=True):
        assert (status, out[:7]) == (1, "FAILED "), what


def test_any_file_of_a_published_log_that_was_altered_fails(kit: Kit, tmp_path: Path) -> None:
    dice = random.Random("published")
    lines: list[list[object]] = []
    read = [
        "checkpoint",
        *sorted(p.relative_to(kit.path("log")) for p in kit.path("log").rglob("entries/**/6")),
    ]
    assert len(read) == 2
    for file in read:
        content = (kit.path("log") / file).read_bytes()
        at = dice.randrange(len(content) - 1)
        wrong = [
            None, b"", content[:at], content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :],
            content[:-1], content[1:],
        ]  # fmt: skip
        wrong += (
            [content + b"\0"] if "entries" in str(file) else [content.replace(b"\n6\n", b"\n5\n")]
        )
        for other in wrong:
            folder = tmp_path / str(len(lines))
            shutil.copytree(kit.path("log"), folder)
            (folder / file).unlink() if other is None else (folder / file).write_bytes(other)
            lines.append([folder, "--key", kit.key(), "--since", kit.path("kept.txt")])
    for line, (status, out, _) in zip(lines, check_agreement(kit, lines), strict=True):
        assert (status, out[:7]) == (1, "FAILED "), line


# A signer who means harm

SEED = bytes(range(32))
HOSTILE = verifier_key("holdfast/hostile", SEED)


def forged(fields: dict[str, Any], id_: str = "ev_1", kind: str = "retrieval", **entry: Any) -> Any:
    """Make a bundle that holds, by the key of who made it all up."""
    shown = [canonical([encode(bytes(32)), name, value]).decode() for name, value in fields.items()]
    digests = sorted(hashlib.sha256(line.encode()).digest() for line in shown)
    commit = hashlib.sha256(b"".join(digests)).hexdigest()
    text = write_leaf(Leaf("ID", kind, 1, commit, "0" * 64)).decode()
    text = text.replace('"ID"', json.dumps(id_, ensure_ascii=False))
    note = sign(HOSTILE.name, SEED, 1, hash_leaf(text.encode())).note
    proof = f"c2sp.org/tlog-proof@v1\nindex 0\n\n{note}"
    return {
        "format": "holdfast-bundle-1", "key": str(HOSTILE),
        "entries": [{"leaf": text, "proof": proof, "disclosed": shown, **entry}],
    }  # fmt: skip


ROW = hashlib.sha256(b"row\n").hexdigest()
SPOILED = {
    "candidates that cannot be unpacked": forged({"candidates": "?"}),
    "candidates that are no text": forged({"candidates": 5}),
    "a row that names no version": forged(
        {"candidates": encode(b"x\x9cc` \x0e\x00\x00\x11\x00\x01"), "corpora": [{"digest": ROW}]},
        corpora=[["row"]],
    ),
    "a time that is none": forged({"as_of": "soon"}),
    "thresholds for nobody": forged({"policy": {"thresholds": [1]}}),
}


@pytest.mark.parametrize("by", ["alone", "holdfast"])
def test_what_a_hostile_signer_committed_to_is_shown_or_fails_in_words(
    kit: Kit, tmp_path: Path, by: str
) -> None:
    lines: list[list[object]] = []
    for number, document in enumerate(SPOILED.values()):
        path = tmp_path / f"{number}.json"
        path.write_text(json.dumps(document), "utf-8")
        lines.append([path, "--key", HOSTILE, "--show"])
    answers = kit.verify_all(lines) if by == "alone" else [run("verify", *line) for line in lines]
    for what, (status, out, err) in zip(SPOILED, answers, strict=True):
        assert status in (0, 1), f"{what}: {status} {err}"
        assert out.startswith("VERIFIED" if status == 0 else "FAILED"), what


DECEPTIONS = {
    "an id with a line of its own": forged({"status": "x"}, "ev_1\nVERIFIED-ERASED under x"),
    "an id that moves the cursor": forged({"status": "x"}, "ev_1\x1b[1A\x1b[2KVERIFIED"),
    "a field's name that moves the cursor": forged({"x\x1b[1A\x1b[2KVERIFIED\x9b": "x"}),
    "an id that reads backwards": forged({"status": "x"}, "ev_1\u202e"),
}  # fmt: skip


def test_nothing_that_a_hostile_signer_wrote_reaches_the_terminal_unescaped(
    kit: Kit, tmp_path: Path
) -> None:
    lines: list[list[object]] = []
    for number, document in enumerate(DECEPTIONS.values()):
        path = tmp_path / f"{number}.json"
        path.write_text(json.dumps(document), "utf-8")
        lines.append([path, "--key", HOSTILE, "--show"])
    for what, (_, out, _) in zip(DECEPTIONS, kit.verify_all(lines), strict=True):
        assert all(sign.isprintable() or sign == "\n" for sign in out), what
        assert sum(line.startswith(("VERIFIED", "FAILED")) for line in out.splitlines()) == 1, what
