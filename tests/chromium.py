"""A real Chromium for tests; they import it as ``chromium``."""

import os
import shutil
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


@contextmanager
def browser() -> Generator[Any]:
    """Start it; skips where there is none."""
    playwright = pytest.importorskip("playwright.sync_api", reason="needs: pip install playwright")
    given = os.environ.get("HOLDFAST_TEST_CHROMIUM")
    path = given or next(filter(None, map(shutil.which, NAMES)), None)
    if path is None:
        pytest.skip("no Chromium is installed; on Debian: apt-get install chromium")
    with playwright.sync_playwright() as running:
        started = running.chromium.launch(executable_path=path, args=["--no-sandbox"])
        try:
            yield started
        finally:
            started.close()


def expect(locator: Any) -> Any:
    """Give what waits until something is so; it needs no evaluation in the page."""
    from playwright.sync_api import expect as wait

    return wait(locator)
