"""Stand-ins that do the real thing in a small way; tests import them as ``fakes``."""

import hashlib
import re
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray


class FakeEmbedder:
    """Embeds a text as the sum of one random direction for each of its words.

    Texts that share words lie close; the same text always gives the same vector. It
    counts what it was asked for.
    """

    def __init__(self, name: str = "fake", dimensions: int = 48) -> None:
        self.name = name
        self.dimensions = dimensions
        self.scale = 200
        self.digest = hashlib.sha256(f"{name} {dimensions}".encode()).hexdigest()
        self.texts: list[str] = []

    def embed(
        self,
        texts: Sequence[str],
        *,
        role: str = "document",
        progress: Callable[[int, int], None] | None = None,
    ) -> NDArray[np.float32]:
        """Embed as the protocol says: float32, (n, d), each row of length 1."""
        self.texts += texts
        rows = np.zeros((len(texts), self.dimensions), np.float32)
        for i, text in enumerate(texts):
            rows[i] = sum(map(self._direction, re.findall(r"\w+", text.casefold()) or [text]))
            if progress:
                progress(i + 1, len(texts))
        return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-9)

    def _direction(self, word: str) -> NDArray[np.float32]:
        seed = hashlib.sha256(f"{self.name} {word}".encode()).digest()[:8]
        generator = np.random.default_rng(int.from_bytes(seed))
        return generator.standard_normal(self.dimensions).astype(np.float32)
