"""A person at the page without JavaScript: forms as browsers send them; tests import it."""

import re
from html import unescape
from typing import Any

import httpx


class Visitor(httpx.Client):
    """A browser that keeps cookies and sends back what forms hold."""

    def __init__(self, url: str) -> None:
        super().__init__(base_url=url, timeout=30, headers={"accept": "text/html"})

    def sign_in(self, key: str, *, at: str = "/sign-in") -> httpx.Response:
        """Sign in by the form that stands at a path."""
        held = fields(self.get(at).text)
        return self.post("/sign-in", data={**held, "key": key})

    def csrf(self) -> str:
        """Give the session's token, from whatever page there is."""
        found = re.search(r'name="csrf" value="([^"]+)"', self.get("/", follow_redirects=True).text)
        assert found is not None
        return found[1]

    def fill(self, path: str, form: dict[str, Any] | None = None, **how: Any) -> httpx.Response:
        """Send a form of our own page."""
        return self.post(path, data={"csrf": self.csrf(), **(form or {})}, **how)

    def part(self, path: str, form: dict[str, Any] | None = None) -> httpx.Response:
        """Send a form as htmx does, for a part of the page."""
        headers = {"hx-request": "true", "x-csrf-token": self.csrf()}
        return self.post(path, data=form or {}, headers=headers)


def fields(page: str) -> dict[str, str]:
    """Give the hidden fields of a page."""
    found = re.findall(r'<input type="hidden" name="([^"]+)" value="([^"]*)"', page)
    return {name: unescape(value) for name, value in found}
