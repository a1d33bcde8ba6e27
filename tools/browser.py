"""A headless Chromium on this machine, and the rendered book served to it.

Debian's Chromium, Chrome or the build that Playwright installs: any of them will do.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

from playwright.sync_api import Browser, sync_playwright

COMMANDS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
MAC_APPLICATIONS = (
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
)
NOT_FOUND = f"no Chromium: none of {', '.join(COMMANDS)} on the PATH, none of Playwright's"


def find_chromium() -> Path | None:
    """The first browser found on the PATH, among a Mac's applications or with Playwright."""
    on_path = (shutil.which(command) for command in COMMANDS)
    found = [Path(path) for path in (*on_path, *MAC_APPLICATIONS) if path and Path(path).exists()]
    return found[0] if found else _find_playwrights_own()


def _find_playwrights_own() -> Path | None:
    with sync_playwright() as playwright:
        path = Path(playwright.chromium.executable_path)
    return path if path.exists() else None


@contextmanager
def open_chromium() -> Iterator[Browser]:
    """A headless browser, closed at the end.

    Raises:
        FileNotFoundError: there is none on this machine.
    """
    path = find_chromium()
    if path is None:
        raise FileNotFoundError(f"{NOT_FOUND}; install one, or run: playwright install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path)
        yield browser
        browser.close()


@contextmanager
def serve(folder: Path) -> Iterator[str]:
    """Serve a folder at a free port of this machine; gives the address, with a slash at its end."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(folder)))
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    server.server_close()


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *arguments: Any) -> None:
        pass

    def handle(self) -> None:
        with suppress(ConnectionError):  # the browser left the page before it had everything
            super().handle()
