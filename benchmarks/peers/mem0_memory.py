"""mem0 without a language model (``infer=False``), on local Chroma or embedded Qdrant.

Its own ``add`` takes 20 ms and more a text, so it is filled through its vector store's own
``insert``, with the payload that its ``add`` writes; ``check`` shows that its search then
finds the same, with the same scores, as after real adds.
"""

import hashlib
import os
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

from protocol import Handlers, corpus, model, serve, settle_threads, timed

BATCH = 500
TOP = 5


def start(work: str, store: str) -> Handlers:
    """Open an empty memory; ``store``: chroma or qdrant."""
    folder = Path(work, f"mem0-{store}")
    os.environ["MEM0_DIR"] = str(folder)
    rows, vectors = corpus(work)
    memory = _open(store, folder / "measured")
    filled, added = 0, 0

    def fill(to: int) -> int:
        nonlocal filled
        _sync(memory, store, "OFF")
        for begin in range(filled, to, BATCH):
            end = min(begin + BATCH, to)
            _insert(memory, rows[begin:end], vectors[begin:end])
        _sync(memory, store, "FULL")
        filled = to
        return filled

    def search(prompt: str, users: list[str]) -> list[float]:
        return timed(
            [
                lambda who=who: memory.search(prompt, top_k=TOP, filters={"user_id": who})
                for who in users
            ]
        )

    def add(times: int) -> list[float]:
        nonlocal added
        added += times
        return timed(
            [
                lambda i=i: memory.add(f"I keep promise number {i}.", user_id="adder", infer=False)
                for i in range(added - times, added)
            ]
        )

    def check(prompts: list[str], count: int) -> str:
        real, direct = _open(store, folder / "real"), _open(store, folder / "direct")
        for user, text in rows[:count]:
            real.add(text, user_id=user, infer=False)
        own = real.embedding_model.embed_batch([text for _, text in rows[:count]])
        _insert(direct, rows[:count], own)
        for prompt in prompts:
            for user in {user for user, _ in rows[:count]}:
                expected, found = _found(real, prompt, user), _found(direct, prompt, user)
                if expected != found:
                    return f"search differs after direct filling: {expected} against {found}"
        return ""

    def settle() -> int:
        return settle_threads(lambda: memory.embedding_model.embed("Which is the faster?"))

    return {"settle": settle, "fill": fill, "search": search, "add": add, "check": check}


def _open(store: str, folder: Path) -> Any:
    from mem0 import Memory

    folder.mkdir(parents=True)
    own: dict[str, Any] = {"collection_name": "memories", "path": str(folder / "vectors")}
    if store == "qdrant":
        own |= {"embedding_model_dims": 384, "on_disk": True}
    return Memory.from_config(
        {
            "vector_store": {"provider": store, "config": own},
            "embedder": {
                "provider": "huggingface",
                "config": {"model": model(), "embedding_dims": 384},
            },
            "history_db_path": str(folder / "history.db"),
        }
    )


def _sync(memory: Any, store: str, level: str) -> None:
    """Let embedded Qdrant, which commits every row, do without a sync of the disk while filled."""
    if store == "qdrant":
        collection = memory.vector_store.client._client.collections["memories"]
        collection.storage.storage.execute(f"PRAGMA synchronous = {level}")


def _insert(memory: Any, rows: Sequence[tuple[str, str]], vectors: Any) -> None:
    """Insert as ``Memory._create_memory`` of mem0 2.2.1 does, in one batch."""
    from mem0.memory.main import lemmatize_for_bm25

    now = datetime.now(UTC).isoformat()
    memory.vector_store.insert(
        vectors=[list(map(float, vector)) for vector in vectors],
        ids=[str(uuid4()) for _ in rows],
        payloads=[
            {
                "user_id": user,
                "role": "user",
                "data": text,
                "hash": hashlib.md5(text.encode()).hexdigest(),
                "created_at": now,
                "updated_at": now,
                "text_lemmatized": lemmatize_for_bm25(text),
            }
            for user, text in rows
        ],
    )


def _found(memory: Any, prompt: str, who: str) -> list[tuple[str, float]]:
    results = memory.search(prompt, top_k=TOP, filters={"user_id": who})["results"]
    return sorted((each["memory"], round(each["score"], 3)) for each in results)


if __name__ == "__main__":
    serve(start)
