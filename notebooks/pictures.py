"""How the notebooks' pictures look, and where they are kept when that is asked for.

It knows nothing of what they show.
"""

import io
import os
import textwrap
from pathlib import Path

import matplotlib.pyplot as plt
from matplotlib.figure import Figure
from PIL import Image

BLUE, ORANGE, GREEN, RED, PURPLE = "#0072b2", "#e69f00", "#009e73", "#d55e00", "#cc79a7"
SKY, BLACK, GREY = "#56b4e9", "#000000", "#8c8c8c"
"""Told apart by the colour-blind (Okabe and Ito, 2008)."""

plt.rcParams.update(
    {
        "figure.facecolor": "white", "savefig.facecolor": "white", "axes.facecolor": "white",
        "figure.dpi": 100, "figure.constrained_layout.use": True, "font.size": 10,
        "axes.spines.top": False, "axes.spines.right": False, "axes.titlelocation": "left",
        "legend.frameon": False,
    }
)  # fmt: skip


def short(text: str, width: int = 48) -> str:
    """Cut a text at a word, so that it fits beside an axis."""
    return textwrap.shorten(text, width, placeholder=" …")


def keep(figure: Figure, name: str) -> None:
    """Save a picture for the README, where ``make pictures`` says into which folder."""
    if folder := os.environ.get("HOLDFAST_PICTURES"):
        drawn = io.BytesIO()
        figure.savefig(drawn, dpi=110)
        palette = Image.open(drawn).convert("RGB").quantize(128)  # a third of the bytes
        palette.save(Path(folder) / f"{name}.png", optimize=True)
