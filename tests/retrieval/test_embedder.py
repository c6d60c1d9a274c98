import base64
import json
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.memory.errors import ConfigurationError, DamagedError, InvalidInputError
from holdfast.retrieval.anchors import drawn
from holdfast.retrieval.embedder import (
    ANCHORS_NAME,
    CONFIG_NAME,
    MODEL_DIRECTORY,
    MODEL_NAME,
    TOKENIZER_NAME,
    BundledEmbedder,
    open_embedder,
    quantise,
)

TEXTS = [
    "I never eat nuts: one crumb of cashew and I'm in hospital.",
    "Which desserts should I try in Sicily?",
    "Keep raw data for ever; a measurement is not wrong because it is odd.",
    "Honesty",
    "Übermut tut selten gut, sagt meine Großmutter. 老虎 🐅 שלום",
    "Rent, food, then books. " * 40,
]
_SHARED = BundledEmbedder(threads=1)


@pytest.fixture(scope="module")
def bundled() -> BundledEmbedder:
    return _SHARED


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    for name in (CONFIG_NAME, MODEL_NAME, TOKENIZER_NAME, ANCHORS_NAME):
        shutil.copy(MODEL_DIRECTORY / name, tmp_path / name)
    return tmp_path


def test_a_text_has_the_same_vector_in_any_company(bundled: BundledEmbedder):
    together = bundled.embed(TEXTS)
    alone = np.concatenate([bundled.embed([text]) for text in TEXTS])
    assert together.tobytes() == alone.tobytes()
    assert bundled.embed(TEXTS[::-1])[::-1].tobytes() == together.tobytes()


@pytest.mark.parametrize("threads", [0, 2, 5])
def test_the_number_of_threads_changes_no_bit(bundled: BundledEmbedder, threads: int):
    assert BundledEmbedder(threads=threads).embed(TEXTS * 3).tobytes() == (
        bundled.embed(TEXTS * 3).tobytes()
    )


def test_eight_callers_at_once_get_identical_vectors():
    shared = BundledEmbedder()
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: shared.embed(TEXTS).tobytes(), range(16)))
    assert set(found) == {BundledEmbedder(threads=1).embed(TEXTS).tobytes()}


def test_vectors_are_float32_rows_of_length_one_in_the_order_of_the_texts(
    bundled: BundledEmbedder,
):
    vectors = bundled.embed(TEXTS)
    assert vectors.shape == (len(TEXTS), 384)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)


def test_no_texts_give_no_rows_without_loading_the_model(copy: Path):
    (copy / MODEL_NAME).unlink()
    assert BundledEmbedder(model=copy).embed([]).shape == (0, 384)


def test_what_bears_on_a_prompt_is_nearer_to_it(bundled: BundledEmbedder):
    prompt, nuts, data = bundled.embed(
        [
            "Can I put cashews in the cake for Ada?",
            "I never eat nuts: one crumb of cashew and I'm in hospital.",
            "Keep raw data for ever; a measurement is not wrong because it is odd.",
        ],
        role="query",
    )
    assert prompt @ nuts > prompt @ data + 0.3


def test_what_is_kept_is_marked_and_drawn_and_what_is_asked_is_not(bundled: BundledEmbedder):
    asked, kept = (bundled.embed(TEXTS, role=role) for role in ("query", "document"))
    marked = bundled.embed([f"value: {text}" for text in TEXTS], role="query")
    anchors = np.load(MODEL_DIRECTORY / ANCHORS_NAME)
    assert drawn(marked, quantise(marked, 400), anchors, 400).tobytes() == kept.tobytes()
    assert not (asked == kept).all(axis=1).any()


def test_a_model_without_anchors_draws_nothing(bundled: BundledEmbedder, copy: Path):
    config = json.loads((copy / CONFIG_NAME).read_text())
    del config["sha256"][ANCHORS_NAME]
    (copy / CONFIG_NAME).write_text(json.dumps(config))
    marked = bundled.embed([f"value: {text}" for text in TEXTS], role="query")
    assert BundledEmbedder(model=copy).embed(TEXTS).tobytes() == marked.tobytes()


def test_a_vector_is_drawn_by_the_five_nearest_anchors_the_nearer_the_more():
    rng = np.random.default_rng(3)
    vector = np.zeros((1, 384), np.float32)
    vector[0, :16] = 0.25
    noise = rng.normal(size=(40, 384)) * np.linspace(0.01, 0.2, 40)[:, None]
    near = vector + noise.astype(np.float32)
    near /= np.linalg.norm(near, axis=1, keepdims=True)
    rounded, anchors = quantise(vector, 400), quantise(near, 400)
    cosines = (anchors.astype(int) @ rounded[0].astype(int)) / 400**2
    five = np.argsort(-cosines)[:5]
    weights = cosines[five] - 0.4
    expected = vector[0] + 0.5 * (weights @ (anchors[five] / 400)) / weights.sum()
    found = drawn(vector, rounded, anchors, 400)
    np.testing.assert_allclose(found[0], expected / np.linalg.norm(expected), atol=1e-5)
    far = -anchors
    assert drawn(vector, rounded, far, 400).tobytes() == vector.tobytes(), "none is near"
    assert drawn(vector[:0], rounded[:0], anchors, 400).shape == (0, 384)


@pytest.mark.parametrize(
    "text",
    ["", " ", "\n\t", "\x00", "\u200b", "\u202eabc", "é", "e\u0301", "x" * 100_000, "🐅" * 3000],
)
def test_any_unicode_text_has_a_finite_vector(bundled: BundledEmbedder, text: str):
    vector = bundled.embed([text])[0]
    assert np.isfinite(vector).all()
    assert abs(np.linalg.norm(vector) - 1) < 1e-5


@settings(max_examples=40, deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=300))
def test_every_text_embeds_to_the_same_bits_twice(text: str):
    assert _SHARED.embed([text]).tobytes() == _SHARED.embed(["other", text])[1].tobytes()


def test_what_lies_beyond_256_tokens_has_no_influence_and_what_lies_before_has(
    bundled: BundledEmbedder,
):
    text = "value " * 252  # with its mark and the special tokens exactly the window
    window, longer, shorter = bundled.embed([text, text + "nuts are fatal", text[:-12]])
    assert window.tobytes() == longer.tobytes()
    assert window.tobytes() != shorter.tobytes()


def test_a_lone_surrogate_is_refused_by_position_and_the_text_is_not_repeated(
    bundled: BundledEmbedder,
):
    with pytest.raises(InvalidInputError, match=r"Text 1 .*U\+D800.* character 6") as caught:
        bundled.embed(["fine", "secret\ud800"])
    assert "secret" not in str(caught.value)


def test_progress_counts_every_text_to_the_total():
    seen: list[tuple[int, int]] = []
    BundledEmbedder(threads=2).embed(TEXTS, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(done, len(TEXTS)) for done in range(1, len(TEXTS) + 1)]


def test_digest_dimensions_and_scale_are_known_without_the_model(copy: Path):
    (copy / MODEL_NAME).unlink()
    (copy / TOKENIZER_NAME).unlink()
    opened = BundledEmbedder(model=copy)
    assert (opened.name, opened.dimensions, opened.scale) == ("bundled", 384, 400)
    assert opened.digest == open_embedder("bundled").digest
    assert len(bytes.fromhex(opened.digest)) == 32


def test_the_digest_follows_the_hash_of_every_file(copy: Path):
    config = json.loads((copy / CONFIG_NAME).read_text())
    digests = {BundledEmbedder(model=copy).digest}
    for name in (MODEL_NAME, TOKENIZER_NAME, ANCHORS_NAME):
        changed = {**config, "sha256": {**config["sha256"], name: "0" * 64}}
        (copy / CONFIG_NAME).write_text(json.dumps(changed))
        digests.add(BundledEmbedder(model=copy).digest)
    assert len(digests) == 4


def test_a_truncated_model_is_refused_by_name_with_the_fix(copy: Path):
    whole = (copy / MODEL_NAME).read_bytes()
    (copy / MODEL_NAME).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DamagedError, match=r"model\.onnx .*pip install --force-reinstall"):
        BundledEmbedder(model=copy).embed(["a"])


def test_an_altered_tokenizer_is_refused_by_name(copy: Path):
    path = copy / TOKENIZER_NAME
    path.write_bytes(path.read_bytes().replace(b'"honest"', b'"cheat!"', 1))
    with pytest.raises(DamagedError, match=r"tokenizer\.json .*pip install --force-reinstall"):
        BundledEmbedder(model=copy).embed(["a"])


@pytest.mark.parametrize("name", [MODEL_NAME, TOKENIZER_NAME, ANCHORS_NAME])
def test_a_missing_file_is_refused_by_name(copy: Path, name: str):
    (copy / name).unlink()
    with pytest.raises(DamagedError, match=name):
        BundledEmbedder(model=copy).embed(["a"])


@pytest.mark.parametrize("content", [None, b"", b"{", b"[]", b"{}", b'{"procedure": 1}', b"\xff"])
def test_an_unusable_configuration_is_refused_on_opening(copy: Path, content: bytes | None):
    (copy / CONFIG_NAME).unlink()
    if content is not None:
        (copy / CONFIG_NAME).write_bytes(content)
    with pytest.raises(DamagedError, match=CONFIG_NAME):
        BundledEmbedder(model=copy)


@pytest.mark.parametrize("name", ["", "openai", "Bundled", "sentence-transformers:"])
def test_an_unknown_embedder_is_refused_with_the_choices(name: str):
    with pytest.raises(ConfigurationError, match=r"'bundled' or to 'sentence-transformers:"):
        open_embedder(name)


def test_a_missing_extra_is_refused_with_the_pip_command(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with pytest.raises(
        ConfigurationError, match=r"pip install 'holdfast\[sentence-transformers\]'"
    ):
        open_embedder("sentence-transformers:some/model")


def test_opening_imports_neither_the_runtime_nor_the_tokenizer_and_embedding_no_torch():
    script = (
        "import sys\n"
        "from holdfast.retrieval.embedder import open_embedder\n"
        "opened = open_embedder('bundled')\n"
        "opened.digest, opened.dimensions, opened.scale\n"
        "assert not {'onnxruntime', 'tokenizers', 'torch'} & set(sys.modules)\n"
        "opened.embed(['a'])\n"
        "assert not {'torch', 'transformers', 'sentence_transformers'} & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (done.returncode, done.stderr, done.stdout) == (0, "", "")


@pytest.mark.parametrize("scale", [400, 100])
def test_quantising_rounds_to_the_nearest_step(bundled: BundledEmbedder, scale: int):
    vectors = bundled.embed(TEXTS)
    rounded = quantise(vectors, scale)
    assert rounded.dtype == np.int8
    assert rounded.flags.c_contiguous
    assert np.abs(rounded / scale - vectors).max() <= 0.5 / scale + 1e-6


def test_quantising_clips_both_ways_and_keeps_the_shape():
    values = np.array([[1.0, -1.0, 0.0, 0.3175, -0.00126]], dtype=np.float32)
    assert quantise(values, 400).tolist() == [[127, -127, 0, 127, -1]]
    assert quantise(np.empty((0, 384), dtype=np.float32), 400).shape == (0, 384)
    transposed = np.zeros((384, 2), dtype=np.float32).T
    assert quantise(transposed, 400).flags.c_contiguous


def test_the_model_card_names_the_hashes_of_the_files_beside_it():
    card = (MODEL_DIRECTORY / "MODEL_CARD.md").read_text(encoding="utf-8")
    config = json.loads((MODEL_DIRECTORY / CONFIG_NAME).read_text(encoding="utf-8"))
    for name, digest in config["sha256"].items():
        assert f"`{name}`" in card
        assert digest in card


def test_the_bundled_model_agrees_with_the_weights_it_was_made_from():
    kept = json.loads(Path(__file__).with_name("tuned_vectors.json").read_text(encoding="utf-8"))
    raw = np.frombuffer(base64.b64decode(kept["vectors"]), "<f2").astype(np.float32)
    expected = raw.reshape(len(kept["texts"]), -1)
    marked = [f"value: {text}" for text in kept["texts"]]  # as the encoder gives it, undrawn
    cosines = (BundledEmbedder().embed(marked, role="query") * expected).sum(1)
    assert len(cosines) == 40
    assert cosines.mean() >= 0.99
    assert cosines.min() >= 0.98
