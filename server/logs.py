"""What the server writes to standard error: one line each, or one JSON object each.

A log holds no subject's words. Our own messages are made without them; of what other
packages say only who spoke and where is told, for they quote what they were given. An
error is told by its type and place.
"""

import json
import logging
import os
import sys
from datetime import UTC, datetime
from typing import Any

OWN = ("holdfast", "uvicorn")
"""Loggers whose words are known to be ours or the protocol's."""
FIELDS = ("request_id", "method", "route", "status", "milliseconds")
"""What a record may carry beside its message."""


def where(error: BaseException) -> str:
    """Say where an error came from, without its words, which may be a subject's."""
    trace: Any = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None:
        return type(error).__name__
    code = trace.tb_frame.f_code
    file = code.co_filename.rsplit("/", 1)[-1]
    return f"{type(error).__name__} in {code.co_qualname} ({file}:{trace.tb_lineno})"


def words(record: logging.LogRecord) -> str:
    """Give what a record says that may be written down."""
    if record.name.partition(".")[0] in OWN or os.environ.get("HOLDFAST_DEBUG"):
        said = record.getMessage().partition("\n")[0]
    else:
        said = f"spoke at {record.module}:{record.lineno}"
    if record.exc_info and record.exc_info[1] is not None:
        said += f": {where(record.exc_info[1])}"
    return said


class Lines(logging.Formatter):
    """Lines for people."""

    def format(self, record: logging.LogRecord) -> str:
        """Write one record."""
        said = "".join(sign if sign.isprintable() else " " for sign in words(record))
        return f"{_time(record)} {record.levelname.lower()} {record.name}: {said}"


class Objects(logging.Formatter):
    """JSON objects for programs, one a line."""

    def format(self, record: logging.LogRecord) -> str:
        """Write one record."""
        told = {"time": _time(record), "level": record.levelname.lower(), "logger": record.name}
        told["message"] = words(record)
        more = {name: getattr(record, name) for name in FIELDS if hasattr(record, name)}
        return json.dumps(told | more)


def _time(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")


def configure(*, as_json: bool) -> None:
    """Send every log of this process to standard error, in one of the two forms."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(Objects() if as_json else Lines())
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
    logging.getLogger("holdfast").setLevel(logging.INFO)
    logging.captureWarnings(capture=True)
