"""The table that turns a total score into a probability, as shipped or as set."""

import json
from functools import lru_cache
from itertools import pairwise
from pathlib import Path

from ..memory.errors import ConfigurationError
from .evaluation import Table

MEMORY = ("gap", "floor", "sizes")
"""What corrects a total for the memory that it comes from."""
SHIPPED = Path(__file__).with_name("model") / "calibration.json"


@lru_cache(maxsize=8)
def read_table(path: Path | None = None) -> Table:
    """Read a calibration table; None: the shipped one, fitted for the bundled model.

    Returns:
        ``totals`` (ascending) and ``probabilities`` at these, both in millionths; and, where
        the file has them, ``gap``, ``floor`` and ``sizes`` (``scoring.level``).

    Raises:
        ConfigurationError: the file is no such table.
    """
    path = path or SHIPPED
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        totals = tuple(int(value) for value in data["totals"])
        chances = tuple(int(value) for value in data["probabilities"])
        memory = {name: tuple(map(int, data[name])) for name in MEMORY if "gap" in data}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigurationError(
            f"{path} is no calibration table ({type(error).__name__}); make one with: "
            "python -m training.calibrate"
        ) from None
    rising = all(a < b for a, b in pairwise(totals))
    bounded = all(0 <= a <= b <= 1_000_000 for a, b in pairwise(chances))
    if len(totals) < 2 or len(totals) != len(chances) or not rising or not bounded:
        raise ConfigurationError(f"{path} is no calibration table: totals and chances must rise")
    if memory and (len(memory["gap"]), len(memory["floor"]), bool(memory["sizes"])) != (1, 1, True):
        raise ConfigurationError(
            f"{path} is no calibration table: gap and floor are one number each"
        )
    return {"totals": totals, "probabilities": chances, **memory}
