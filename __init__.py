"""Holdfast: a values memory for language models.

People state in plain words what they value, promise and have decided. For each
request Holdfast picks the few statements that bear on it, renders them for the
model, and keeps evidence of what it picked and why.

    from holdfast import Holdfast

    with Holdfast.open() as hf:
        hf.add("ada", "I never eat nuts: one crumb of cashew and I'm in hospital.")
        print(hf.retrieve("ada", "Can I eat the baklava they serve here?").context)

Names are loaded when first used, so that ``import holdfast`` costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from .memory.errors import (
        ConfigurationError as ConfigurationError,
        HoldfastError as HoldfastError,
        InvalidInputError as InvalidInputError,
        NotFoundError as NotFoundError,
        StorageError as StorageError,
    )
    from .memory.models import (
        Decision as Decision,
        Evidence as Evidence,
        Proposal as Proposal,
        Statement as Statement,
        Verification as Verification,
    )
    from .retrieval.engine import Holdfast as Holdfast
    from .retrieval.mapping import ValuesMap as ValuesMap
    from .retrieval.results import (
        Added as Added,
        Candidate as Candidate,
        Injection as Injection,
        Retrieval as Retrieval,
    )
    from .retrieval.settings import Settings as Settings

_HOME = {
    "Holdfast": ".retrieval.engine",
    "Settings": ".retrieval.settings",
    "ValuesMap": ".retrieval.mapping",
    **dict.fromkeys(("Added", "Candidate", "Injection", "Retrieval"), ".retrieval.results"),
    **dict.fromkeys(
        ("Decision", "Evidence", "Proposal", "Statement", "Verification"), ".memory.models"
    ),
    **dict.fromkeys(
        (
            "ConfigurationError",
            "HoldfastError",
            "InvalidInputError",
            "NotFoundError",
            "StorageError",
        ),
        ".memory.errors",
    ),
}

__all__ = ["__version__", *_HOME]  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOME[name], __name__), name)


def __dir__() -> list[str]:
    return sorted(__all__)
