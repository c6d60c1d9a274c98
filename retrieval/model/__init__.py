"""The bundled weights; see MODEL_CARD.md."""
