"""Embedding through sentence-transformers, with the official all-MiniLM-L6-v2 weights."""

from protocol import Handlers, model, serve, settle_threads, timed


def start() -> Handlers:
    """Load the model."""
    from sentence_transformers import SentenceTransformer

    loaded = SentenceTransformer(model(), device="cpu")

    def embed(text: str) -> None:
        loaded.encode(text, show_progress_bar=False)

    return {
        "settle": lambda: settle_threads(lambda: embed("Which is the faster?")),
        "search": lambda prompt, users: timed([lambda: embed(prompt)] * len(users)),
    }


if __name__ == "__main__":
    serve(start)
