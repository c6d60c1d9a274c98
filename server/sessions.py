"""Who is signed in at the page: sessions in the memory of the process.

A browser holds a random token in a cookie; here lie its SHA-256 and the id of the key with
which it was begun, never the key. They end with the process, with the key, by signing out, after
``LONGEST`` and after ``IDLE`` without a request. It knows nothing of HTTP.
"""

import hashlib
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

LONGEST = 12 * 3600.0
"""Seconds after which a session ends, whatever is done in it."""
IDLE = 2 * 3600.0
"""Seconds without a request after which it ends."""
MOST_OF_A_KEY = 20
"""Sessions of one key; a further one ends the one used longest ago."""
MOST = 1000
"""Sessions in all, the same."""


@dataclass
class Session:
    """One browser in which somebody signed in."""

    tenant: str
    key_id: str
    begun: float
    used: float
    csrf: str = field(default_factory=lambda: secrets.token_urlsafe(24), repr=False)
    """What every form must send back, which no other site can know."""
    subject: str | None = None
    """Whose values were looked at last: where the menu leads."""


class Sessions:
    """All sessions; safe between threads."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        """Begin with none; ``clock`` gives seconds."""
        self._clock = clock
        self._lock = threading.Lock()
        self._held: dict[str, Session] = {}

    def begin(self, tenant: str, key_id: str) -> tuple[str, Session]:
        """Begin a session; give the token that only the browser is to hold."""
        token, now = secrets.token_urlsafe(32), self._clock()
        session = Session(tenant, key_id, begun=now, used=now)
        with self._lock:
            self._held = {at: each for at, each in self._held.items() if _lasts(each, now)}
            own = [at for at, each in self._held.items() if each.key_id == key_id]
            self._make_room(own, MOST_OF_A_KEY)
            self._make_room(list(self._held), MOST)
            self._held[_digest(token)] = session
        return token, session

    def _make_room(self, among: list[str], most: int) -> None:
        if len(among) >= most:
            del self._held[min(among, key=lambda at: self._held[at].used)]

    def find(self, token: str) -> Session | None:
        """Give the session of a token, which lasts on; None: there is none, or no longer."""
        now = self._clock()
        with self._lock:
            session = self._held.get(_digest(token))
            if session is None or not _lasts(session, now):
                self._held.pop(_digest(token), None)
                return None
            session.used = now
            return session

    def end(self, token: str) -> None:
        """End a session, if there is one."""
        with self._lock:
            self._held.pop(_digest(token), None)


def _lasts(session: Session, now: float) -> bool:
    return now - session.begun < LONGEST and now - session.used < IDLE


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()
