"""Text to vector: the protocol, the bundled model, and the int8 form that is stored.

The bundled model is all-MiniLM-L6-v2 in ONNX with int8 weights, and anchors towards which
it draws what is kept (``model/``, see its card); ``sentence_transformers_embedder`` runs
any other model behind the same protocol. This module knows nothing of subjects, statements
or scores.

Every text is embedded in a run of its own. Under dynamic quantisation the scale of
the activations is taken from all that a run holds, so a vector from a batch would
depend on its neighbours and ``add`` and ``add_many`` would disagree.
"""

import hashlib
import json
import os
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from ..memory.errors import ConfigurationError, DamagedError, InvalidInputError
from .anchors import drawn

Role = Literal["document", "query"]
Progress = Callable[[int, int], None]

MODEL_DIRECTORY = Path(__file__).with_name("model")
CONFIG_NAME = "embedder.json"
MODEL_NAME = "model.onnx"
TOKENIZER_NAME = "tokenizer.json"
ANCHORS_NAME = "anchors.npy"
PROCEDURE = 2
"""Raised when the code below would give another vector for the same files."""

_BUNDLED = "bundled"
_SENTENCE_TRANSFORMERS = "sentence-transformers:"
_MOST_THREADS = 4


class Embedder(Protocol):
    """What turns texts into vectors."""

    @property
    def name(self) -> str:
        """``bundled``, or ``sentence-transformers:`` and a model's name or path."""
        ...

    @property
    def digest(self) -> str:
        """Hex SHA-256 over everything a vector depends on; equal digests, equal vectors."""
        ...

    @property
    def dimensions(self) -> int:
        """Components of a vector."""
        ...

    @property
    def scale(self) -> int:
        """What a component of a normalised vector is multiplied by before rounding to int8."""
        ...

    def embed(
        self,
        texts: Sequence[str],
        *,
        role: Role = "document",
        progress: Progress | None = None,
    ) -> NDArray[np.float32]:
        """Embed texts, in their order.

        Args:
            texts: any number of texts, none included; what lies beyond the model's
                window (256 tokens for the bundled one) has no influence.
            role: whether they are kept or asked with; models with prompts tell them apart.
            progress: called with (done, total) after each text.

        Returns:
            float32, shape (len(texts), dimensions), each row of length 1.

        Raises:
            InvalidInputError: a text has a lone surrogate and is not Unicode.
            DamagedError: a file of the model is not what was installed.
        """
        ...


def quantise(vectors: NDArray[np.float32], scale: int) -> NDArray[np.int8]:
    """Round normalised vectors to the int8 components that are stored and scored.

    Args:
        vectors: float32, any shape.
        scale: the embedder's; components beyond ±127/scale are clipped.

    Returns:
        int8, contiguous, the same shape.
    """
    scaled = np.rint(np.asarray(vectors, dtype=np.float32) * np.float32(scale))
    return np.ascontiguousarray(np.clip(scaled, -127, 127).astype(np.int8))


def open_embedder(name: str, *, threads: int = 0) -> Embedder:
    """Find an embedder by its name in the settings.

    Args:
        name: ``bundled``, or ``sentence-transformers:NAME_OR_PATH``.
        threads: the bundled model embeds so many texts at once; 0: as many as there are
            cores, at most four. For PyTorch, the process's threads; 0: left as they are.

    Raises:
        ConfigurationError: no embedder has that name, its extra is not installed, or
            its model cannot be loaded.
        DamagedError: the bundled model's configuration cannot be read.
    """
    if name == _BUNDLED:
        return BundledEmbedder(threads=threads)
    if name.startswith(_SENTENCE_TRANSFORMERS) and name != _SENTENCE_TRANSFORMERS:
        from .sentence_transformers_embedder import SentenceTransformersEmbedder

        return SentenceTransformersEmbedder(
            name.removeprefix(_SENTENCE_TRANSFORMERS), threads=threads
        )
    raise ConfigurationError(
        f"No embedder is called {name!r}. Set HOLDFAST_EMBEDDER to 'bundled' or to "
        "'sentence-transformers:NAME_OR_PATH'."
    )


def check_unicode(texts: Iterable[str]) -> None:
    """Refuse texts that have no UTF-8 form, which no tokenizer takes.

    Raises:
        InvalidInputError: names the position in the sequence, never the text.
    """
    for index, text in enumerate(texts):
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise InvalidInputError(
                f"Text {index} has a lone surrogate (U+{ord(text[error.start]):04X}) at character "
                f"{error.start}: decode it as UTF-8, or leave that character out."
            ) from None


class BundledEmbedder:
    """The model in the package, on ONNX Runtime; no network, no PyTorch.

    Opening reads a small JSON file. The weights are loaded, and their hashes
    checked, when the first text is embedded. One session serves all threads.
    """

    name = _BUNDLED

    def __init__(self, *, threads: int = 0, model: Path = MODEL_DIRECTORY) -> None:
        self._directory = model
        self._threads = threads or min(_MOST_THREADS, _cores())
        self._lock = threading.Lock()
        self._loaded: tuple[Any, Any, NDArray[np.int8] | None] | None = None
        config = self._read_config()
        self.dimensions: int = config["dimensions"]
        self.scale: int = config["scale"]
        self._max_tokens: int = config["max_tokens"]
        self._prompts: dict[Role, str] = config["prompts"]
        self._hashes: dict[str, str] = config["sha256"]
        canonical = json.dumps(config, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        self.digest = hashlib.sha256(canonical.encode()).hexdigest()

    def embed(
        self,
        texts: Sequence[str],
        *,
        role: Role = "document",
        progress: Progress | None = None,
    ) -> NDArray[np.float32]:
        """Embed texts as the protocol says; a text's vector never depends on its company."""
        vectors = np.empty((len(texts), self.dimensions), dtype=np.float32)
        if not texts:
            return vectors
        check_unicode(texts)
        tokenizer, session, anchors = self._load()
        before = self._prompts[role]

        def run(text: str) -> NDArray[np.float32]:
            tokens = np.array([tokenizer.encode(before + text).ids], dtype=np.int64)
            return session.run(None, {"input_ids": tokens})[0]

        def collect(rows: Iterable[NDArray[np.float32]]) -> None:
            for index, row in enumerate(rows):
                vectors[index] = row
                if progress is not None:
                    progress(index + 1, len(texts))

        workers = min(self._threads, len(texts))
        if workers == 1:
            collect(map(run, texts))
        else:
            with ThreadPoolExecutor(workers, thread_name_prefix="holdfast-embed") as pool:
                collect(pool.map(run, texts))
        if role == "document" and anchors is not None:
            return drawn(vectors, quantise(vectors, self.scale), anchors, self.scale)
        return vectors

    def _read_config(self) -> dict[str, Any]:
        try:
            config = cast(
                "dict[str, Any]", json.loads((self._directory / CONFIG_NAME).read_bytes())
            )
            usable = config["procedure"] == PROCEDURE and {
                "dimensions",
                "scale",
                "max_tokens",
                "prompts",
                "sha256",
            } <= set(config)
        except (OSError, ValueError, TypeError, KeyError):
            usable, config = False, {}
        if not usable:
            raise self._damaged(CONFIG_NAME)
        return config

    def _load(self) -> tuple[Any, Any, NDArray[np.int8] | None]:
        """Load everything once, from files whose hashes are as recorded."""
        if self._loaded is None:
            with self._lock:
                if self._loaded is None:
                    for name, expected in self._hashes.items():
                        self._check(name, expected)
                    self._loaded = (
                        self._open_tokenizer(), self._open_session(), self._open_anchors()
                    )  # fmt: skip
        return self._loaded

    def _check(self, name: str, expected: str) -> None:
        try:
            with (self._directory / name).open("rb") as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError:
            found = ""
        if found != expected:
            raise self._damaged(name)

    def _damaged(self, name: str) -> DamagedError:
        return DamagedError(
            f"{self._directory / name} is missing or is not the file that was installed. "
            "Install holdfast again: pip install --force-reinstall --no-deps holdfast"
        )

    def _open_tokenizer(self) -> Any:
        from tokenizers import Tokenizer

        tokenizer = cast("Any", Tokenizer).from_file(str(self._directory / TOKENIZER_NAME))
        tokenizer.no_padding()  # the official file pads to 128 and cuts at 128
        tokenizer.enable_truncation(self._max_tokens)
        return tokenizer

    def _open_anchors(self) -> NDArray[np.int8] | None:
        """Read the anchors: int8 (a, d); None: a model that was just exported has none yet."""
        if ANCHORS_NAME not in self._hashes:
            return None
        return np.load(self._directory / ANCHORS_NAME, allow_pickle=False)

    def _open_session(self) -> Any:
        import onnxruntime  # pyright: ignore[reportMissingTypeStubs]

        runtime = cast("Any", onnxruntime)
        runtime.set_default_logger_severity(3)
        options = runtime.SessionOptions()
        options.log_severity_level = 3
        # One thread a run: a second saves a fifth of a short prompt on an idle machine and
        # costs several times its length on a busy one; texts run side by side instead.
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.enable_mem_pattern = False
        return runtime.InferenceSession(
            str(self._directory / MODEL_NAME), options, providers=["CPUExecutionProvider"]
        )


def _cores() -> int:
    """Count the cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
