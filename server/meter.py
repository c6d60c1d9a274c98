"""What callers do, counted by key and month, with quotas and a limit to their rate.

Counts are kept in memory and written every second, and when the server stops; a process
that is killed loses at most that second. Names and numbers only: no texts.
"""

import logging
import threading
import time
from collections import Counter

from ..memory import times
from ..memory.errors import HoldfastError
from ..retrieval.engine import Holdfast
from .auth import Caller
from .problems import RefusedError

logger = logging.getLogger("holdfast.server")
FLUSH_SECONDS = 1.0


class Meter:
    """Counts operations; safe between threads."""

    def __init__(self, holdfast: Holdfast, rate_limit: int) -> None:
        """Take where counts are kept, and how many requests a minute a key may make (0: any)."""
        self._holdfast = holdfast
        self._rate = rate_limit
        self._lock = threading.Lock()
        self._done: Counter[tuple[str, str, str]] = Counter()
        self._used: dict[str, int] = {}
        self._totals: dict[tuple[str, str], int] = {}
        self._tokens: dict[str, tuple[float, float]] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="holdfast-meter", daemon=True)

    def start(self) -> None:
        """Begin to write counts."""
        self._thread.start()

    def close(self) -> None:
        """Write what is left, and stop."""
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join()
        self.flush()

    def admit(self, caller: Caller, operation: str) -> None:
        """Count one operation of a caller.

        Raises:
            RefusedError: 429, over its rate or its quota; nothing was counted.
        """
        if caller.key_id == "local":
            return
        month = times.this_month()
        with self._lock:
            self._check_rate(caller)
            if caller.quota is not None:
                self._check_quota(caller, month)
            self._done[caller.key_id, month, operation] += 1
            self._used[caller.key_id] = times.now()

    def _check_rate(self, caller: Caller) -> None:
        """Take one token of the key's bucket, which fills up within a minute."""
        if not self._rate:
            return
        now = time.monotonic()
        tokens, at = self._tokens.get(caller.key_id, (float(self._rate), now))
        tokens = min(float(self._rate), tokens + (now - at) * self._rate / 60)
        if tokens < 1:
            wait = max(1, round((1 - tokens) * 60 / self._rate))
            raise RefusedError(
                429,
                f"too many requests: {self._rate} a minute with one key; try again in {wait} s",
                headers={"retry-after": str(wait)},
            )
        self._tokens[caller.key_id] = (tokens - 1, now)

    def _check_quota(self, caller: Caller, month: str) -> None:
        assert caller.quota is not None
        which = (caller.key_id, month)
        if which not in self._totals:
            self._totals[which] = self._holdfast.access.counted(*which) + sum(
                count for (key, of, _), count in self._done.items() if (key, of) == which
            )
        if self._totals[which] >= caller.quota:
            raise RefusedError(
                429,
                f"the quota of this key is used up: {caller.quota} operations in {month}; an "
                "admin gives it another",
            )
        self._totals[which] += 1

    def flush(self) -> None:
        """Write the counts since the last time; what cannot be written is kept for the next."""
        with self._lock:
            done, self._done = self._done, Counter()
            used, self._used = self._used, {}
        if not done and not used:
            return
        try:
            self._holdfast.access.count(dict(done), used)
        except HoldfastError as error:
            logger.warning("usage could not be written: %s", type(error).__name__)
            with self._lock:
                self._done += done
                self._used = used | self._used

    def _run(self) -> None:
        while not self._stop.wait(FLUSH_SECONDS):
            self.flush()
