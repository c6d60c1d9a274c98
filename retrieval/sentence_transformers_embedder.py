"""Any sentence-transformers model as an embedder; the only importer of that library.

Needs the extra ``[sentence-transformers]``. A model that is given by name is fetched
by the library when it is not on the machine yet; a path is read from disk.
"""

import hashlib
import importlib.util
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from ..memory.errors import ConfigurationError
from .embedder import Progress, Role, check_unicode

PROCEDURE = 1
"""Raised when the code below would give another vector for the same model."""

_INSTALL = (
    "The embedder 'sentence-transformers:…' needs sentence-transformers: "
    "pip install 'holdfast[sentence-transformers]'"
)


class SentenceTransformersEmbedder:
    """A sentence-transformers model, in float32 on the processor, one text a batch.

    A batch pads its texts to one length, and the last bits of a vector then depend on
    its neighbours; a text alone always gives the same vector. ``encode_query`` and
    ``encode_document`` put the model's own prompts before the text.
    """

    def __init__(self, model: str, *, threads: int = 0) -> None:
        self.name = f"sentence-transformers:{model}"
        self._model = _load(model)
        if threads:
            import torch

            cast("Any", torch).set_num_threads(threads)
        self.dimensions: int = _dimensions(self._model)
        self.scale = scale_for(self.dimensions)
        self.digest = _digest(self._model, self.scale)

    def embed(
        self,
        texts: Sequence[str],
        *,
        role: Role = "document",
        progress: Progress | None = None,
    ) -> NDArray[np.float32]:
        """Embed texts as the protocol says."""
        check_unicode(texts)
        encode = self._model.encode_query if role == "query" else self._model.encode_document
        vectors = np.empty((len(texts), self.dimensions), dtype=np.float32)
        for index, text in enumerate(texts):
            vectors[index] = encode(text, normalize_embeddings=True, show_progress_bar=False)
            if progress is not None:
                progress(index + 1, len(texts))
        return vectors


def scale_for(dimensions: int) -> int:
    """Choose the int8 scale of a model that has no measured one: 400 at 384 dimensions.

    The components of a vector of length 1 shrink with the root of their number, so the
    scale grows with it: round(400 * sqrt(dimensions / 384)), up to 30,000 dimensions.
    By Cauchy-Schwarz no partial sum of a dot product of two rounded vectors exceeds
    (scale + sqrt(dimensions) / 2)^2. That is under 2^24 up to a million dimensions, so
    float32 adds it exactly.
    """
    return round(400 * math.sqrt(min(dimensions, 30_000) / 384))


def _load(model: str) -> Any:
    if importlib.util.find_spec("sentence_transformers") is None:
        raise ConfigurationError(_INSTALL)
    try:
        from sentence_transformers import SentenceTransformer
    except ImportError as error:
        raise ConfigurationError(f"{_INSTALL} ({error})") from error
    build = cast("Any", SentenceTransformer)
    try:
        try:
            loaded = build(model, device="cpu", local_files_only=True)
        except Exception:
            if Path(model).is_absolute():
                raise
            loaded = build(model, device="cpu")
    except Exception as error:  # whatever the library, the hub or the network raises
        raise ConfigurationError(
            f"sentence-transformers cannot load {model!r} ({type(error).__name__}). Check the "
            "name and the network, or give the absolute path of a folder that holds the model: "
            "HOLDFAST_EMBEDDER=sentence-transformers:/path/to/model"
        ) from error
    return loaded.float().eval()


def _dimensions(model: Any) -> int:
    current = getattr(model, "get_embedding_dimension", None)  # the name since version 5.4
    found = (current or model.get_sentence_embedding_dimension)()
    if not isinstance(found, int):
        raise ConfigurationError("The model does not say how many dimensions its vectors have.")
    return found


def _digest(model: Any, scale: int) -> str:
    """Hash weights in the order of the state, modules, tokenizer, prompts and procedure.

    The modules are described as the library prints them, so a release of it that
    describes them otherwise gives another digest, and everything is embedded again.
    """
    digest = hashlib.sha256()
    for key, tensor in model.state_dict().items():
        values = np.ascontiguousarray(tensor.detach().cpu().numpy())
        digest.update(f"{key} {values.dtype} {values.shape}\n".encode())
        digest.update(values.tobytes())
    tokenizer = getattr(model.tokenizer, "backend_tokenizer", None)
    vocabulary = tokenizer.to_str() if tokenizer else sorted(model.tokenizer.get_vocab().items())
    about = {
        "procedure": PROCEDURE,
        "scale": scale,
        "modules": repr(model),
        "max_tokens": model.max_seq_length,
        "prompts": model.prompts,
        "default_prompt": model.default_prompt_name,
        "tokenizer": vocabulary,
    }
    digest.update(json.dumps(about, sort_keys=True).encode())
    return digest.hexdigest()
