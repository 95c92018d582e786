"""The system's own browser, without a window, for tests of pages; they skip with a reason where there is none."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome")


@contextmanager
def browser() -> Iterator[Any]:
    """A started browser of playwright's; `new_page(viewport=..., color_scheme=...)` opens a page."""
    playwright = pytest.importorskip("playwright.sync_api", reason='no playwright: pip install -e ".[dev]"')
    path = next((found for name in NAMES if (found := shutil.which(name))), None)
    if path is None:
        pytest.skip(f"no browser: none of {', '.join(NAMES)} is installed (on Debian: apt install chromium)")
    with playwright.sync_playwright() as tool:
        started = tool.chromium.launch(executable_path=path, args=["--no-sandbox"])
        try:
            yield started
        finally:
            started.close()
