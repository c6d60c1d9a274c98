"""A bare Chroma query filtered by user, with vectors made beforehand: no embedding in it."""

from pathlib import Path

from protocol import Handlers, corpus, serve, timed

BATCH = 1000


def start(work: str) -> Handlers:
    """Open an empty collection."""
    import chromadb
    import numpy as np

    rows, vectors = corpus(work)
    settings = chromadb.Settings(anonymized_telemetry=False)
    client = chromadb.PersistentClient(str(Path(work, "chroma")), settings)
    space = {"hnsw": {"space": "cosine"}}
    collection = client.create_collection("all", configuration=space, embedding_function=None)
    prompt_vector = np.load(Path(work, "prompt.npy"))
    filled = 0

    def fill(to: int) -> int:
        nonlocal filled
        for begin in range(filled, to, BATCH):
            end = min(begin + BATCH, to)
            collection.add(
                ids=[str(row) for row in range(begin, end)],
                embeddings=np.array(vectors[begin:end]),
                metadatas=[{"user": user} for user, _ in rows[begin:end]],
                documents=[text for _, text in rows[begin:end]],
            )
        filled = to
        return filled

    def search(prompt: str, users: list[str]) -> list[float]:  # noqa: ARG001
        return timed(
            [
                lambda who=who: collection.query(
                    query_embeddings=prompt_vector[None], where={"user": who}, n_results=5
                )
                for who in users
            ]
        )

    return {"fill": fill, "search": search}


if __name__ == "__main__":
    serve(start)
