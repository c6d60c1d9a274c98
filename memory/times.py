"""Times as the record keeps them: whole microseconds since 1970 in UTC.

Integers compare and hash the same everywhere; callers see aware datetimes.
"""

import time
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from typing import overload

from .errors import InvalidInputError

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
DAY = timedelta(days=1) // MICROSECOND
FIRST = (datetime.min.replace(tzinfo=UTC) - EPOCH) // MICROSECOND
LAST = (datetime.max.replace(tzinfo=UTC) - EPOCH) // MICROSECOND

Time = datetime | date | str
"""What callers may give: a datetime (naive: UTC), a date (its first moment in UTC), or ISO 8601."""


def now() -> int:
    """Give the wall clock, in microseconds since 1970."""
    return time.time_ns() // 1000


@lru_cache(1024)  # statements of one change share theirs
def to_datetime(micros: int) -> datetime:
    """Turn microseconds into an aware datetime in UTC."""
    return EPOCH + timedelta(microseconds=micros)


@overload
def written(micros: int) -> str: ...
@overload
def written(micros: int | None) -> str | None: ...
def written(micros: int | None) -> str | None:
    """Write microseconds as ISO 8601 in UTC, as the ledger and documents hold them.

    Canonical JSON takes no number beyond 2^53; these reach the year 2255 only.
    """
    return None if micros is None else to_datetime(micros).isoformat()


def this_month() -> str:
    """Give the month, in UTC, as operations are counted by it: ``2026-11``."""
    return to_datetime(now()).strftime("%Y-%m")


def day_of(said: str) -> tuple[int, int] | None:
    """Give the first and the last microsecond of a bare day in ISO 8601, in UTC; None: it is none.

    It is for people, to whom a day is the whole of it; to programs it is its first moment.
    """
    try:
        first = to_micros(date.fromisoformat(said))
    except ValueError:
        return None
    return first, first + DAY - 1


def to_micros(value: Time, name: str = "time") -> int:
    """Turn a caller's time into microseconds since 1970.

    Raises:
        InvalidInputError: ``value`` is no time; the message shows the form to use.
    """
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value.strip())
        except ValueError:
            raise InvalidInputError(
                f"{name} is no ISO 8601 time; write it like 2026-03-01 or 2026-03-01T09:30:00+01:00"
            ) from None
    if not isinstance(value, datetime):
        if not isinstance(value, date):
            raise InvalidInputError(f"{name} must be a datetime, a date or an ISO 8601 text")
        value = datetime(value.year, value.month, value.day)
    if value.tzinfo is None:
        value = value.replace(tzinfo=UTC)
    micros = (value - EPOCH) // MICROSECOND
    if not FIRST <= micros <= LAST:
        raise InvalidInputError(f"{name} must lie in the years 1 to 9999, in UTC")
    return micros
