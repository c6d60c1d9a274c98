"""LangGraph's InMemoryStore with the official all-MiniLM-L6-v2 weights as its embed function.

It is the store that its guides begin with. SqliteStore, the durable one without a server,
needs a Python whose sqlite3 loads extensions, which many are built without. The store is
filled through ``batch`` of puts, the vectors looked up instead of computed.
"""

from typing import Any

from protocol import Handlers, corpus, model, serve, settle_threads, timed

BATCH = 500


def start(work: str) -> Handlers:
    """Open an empty store."""
    from langgraph.store.base import PutOp
    from langgraph.store.memory import InMemoryStore
    from sentence_transformers import SentenceTransformer

    rows, vectors = corpus(work)
    loaded = SentenceTransformer(model(), device="cpu")
    known: dict[str, Any] = {}

    def embed(wanted: list[str]) -> list[list[float]]:
        if all(text in known for text in wanted):
            return [known[text].tolist() for text in wanted]
        return loaded.encode(wanted, show_progress_bar=False).tolist()

    opened = InMemoryStore(index={"dims": 384, "embed": embed, "fields": ["text"]})
    filled, added = 0, 0

    def fill(to: int) -> int:
        nonlocal filled
        for begin in range(filled, to, BATCH):
            numbers = range(begin, min(begin + BATCH, to))
            known.update((rows[i][1], vectors[i]) for i in numbers)
            opened.batch(
                [PutOp(("values", rows[i][0]), str(i), {"text": rows[i][1]}) for i in numbers]
            )
            known.clear()
        filled = to
        return filled

    def search(prompt: str, users: list[str]) -> list[float]:
        return timed(
            [lambda who=who: opened.search(("values", who), query=prompt, limit=5) for who in users]
        )

    def add(times: int) -> list[float]:
        nonlocal added
        added += times
        return timed(
            [
                lambda i=i: opened.put(
                    ("values", "adder"), f"new-{i}", {"text": f"I keep promise number {i}."}
                )
                for i in range(added - times, added)
            ]
        )

    def settle() -> int:
        return settle_threads(lambda: embed(["Which is the faster?"]))

    return {"settle": settle, "fill": fill, "search": search, "add": add}


if __name__ == "__main__":
    serve(start)
