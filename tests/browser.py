"""A real headless Chromium for the pages that the project writes, which must be quiet and need no network."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, sync_playwright

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
QUIET = ("--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking", "--disable-sync")
PHONE = {"width": 390, "height": 844}


@contextmanager
def opened(source: Path | str, *, scheme: str = "light", viewport: dict[str, int] | None = None) -> Iterator[Page]:
    """A page in a new browser; fails afterwards if it logged an error or asked for anything else.

    `source` is a file, or the address of a server, which the page may ask for more. `scheme` is "light" or "dark".
    Skips the test where there is no Chromium; .ci/run installs one.
    """
    address = source if isinstance(source, str) else source.resolve().as_uri()
    if CHROMIUM is None:
        pytest.skip("expected Chromium, found none: apt-get install chromium")
    complaints: list[str] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(QUIET))
        context: Any = browser.new_context(color_scheme=scheme, viewport=viewport or {"width": 1280, "height": 800})
        page = context.new_page()
        page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on(
            "request",
            lambda request: complaints.append(f"asked for {request.url}") if _leaves(request, address) else None,
        )
        page.goto(address, timeout=120_000)  # a busy machine is not a fault of the page
        try:
            yield page
        finally:
            browser.close()
    assert complaints == []


def _leaves(request: Any, address: str) -> bool:
    own = ("data:", "blob:", *([address] if address.startswith("http:") else []))
    return not request.is_navigation_request() and not request.url.startswith(own)
