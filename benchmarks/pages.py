"""Weight and speed of the built pages on a slow connection and a slow processor (needs `make book` and a Chromium).

python run.py bench pages                         the pages of the bars below
python -m benchmarks.pages FOLDER [PAGE ...]      another build, or other pages, such as chapters/04_convergence

Slow 4G is what a browser's developer tools call so: 180 kB a second, each request after 562 ms; the processor is
slowed four times. What a page weighs is what a server sends that packs text with gzip.
"""

from __future__ import annotations

import gzip
import mimetypes
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache, partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

from playwright.sync_api import Browser

from benchmarks import Row
from book.build import BUILD, story_pages
from book.takeaway import chromium

LANDING = "chapters/index"
SLOW_4G = {"offline": False, "latency": 562.5, "downloadThroughput": 180_000, "uploadThroughput": 84_000}
SLOWER = 4
PHONE = {"width": 390, "height": 844}
WATCH = """
const begun = performance.now();
window.reached = {};
const look = () => {
  const film = document.querySelector(".moving[data-name=landing]");
  if (film?.dataset.now > 0) reached.film ??= performance.now();
  const left = [...document.querySelectorAll(".math.notranslate")].some(
    (e) => !e.querySelector("mjx-container") && !e.closest("details:not([open]), .dropdown"));
  if (document.readyState !== "loading" && !left) reached.formulas ??= performance.now();
  setTimeout(look, 100);
};
look();
"""


class Packed(BaseHTTPRequestHandler):
    """Serves files as a usual server does: text packed, connections kept open."""

    protocol_version = "HTTP/1.1"

    def __init__(self, folder: Path, *words: Any) -> None:
        self.folder = folder
        super().__init__(*words)

    def do_GET(self) -> None:
        """Send a file of the folder."""
        path = self.folder / self.path.partition("?")[0].lstrip("/")
        if not path.is_file():
            self.send_response(404)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        kind = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
        small = kind.startswith("text/") or path.suffix in (".js", ".json", ".svg")
        body = packed(path) if small else path.read_bytes()
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        if small:
            self.send_header("Content-Encoding", "gzip")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@cache
def packed(path: Path) -> bytes:
    """A file as gzip packs it."""
    return gzip.compress(path.read_bytes())


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """Serve a folder on this machine; the address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Packed, folder))
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()


def measured(browser: Browser, address: str, name: str, *, slow: bool = True, patience: float = 90) -> dict[str, float]:
    """What a first visit costs: kB, requests, nodes at rest, and seconds until formulas in view and film are there."""
    page = browser.new_context(viewport=PHONE).new_page()
    tools = page.context.new_cdp_session(page)
    sizes: list[float] = []
    tools.on("Network.loadingFinished", lambda event: sizes.append(event["encodedDataLength"]))
    tools.send("Network.enable")
    if slow:
        tools.send("Network.emulateNetworkConditions", SLOW_4G)
        tools.send("Emulation.setCPUThrottlingRate", {"rate": SLOWER})
    page.add_init_script(WATCH)
    page.goto(f"{address}/{name}.html", wait_until="commit", timeout=600_000)
    wanted = ["formulas", *(["film"] if name == LANDING else [])]
    begun = time.monotonic()
    while time.monotonic() - begun < patience and not all(w in page.evaluate("reached") for w in wanted):
        page.wait_for_timeout(200)
    page.wait_for_load_state("networkidle")
    reached = page.evaluate("reached")
    nodes = page.evaluate("document.querySelectorAll('*').length")
    page.context.close()
    times = {what: reached.get(what, float("inf")) / 1000 for what in wanted}
    return {"kB": sum(sizes) / 1000, "requests": len(sizes), "nodes": nodes, **times}


def rows() -> Iterator[Row]:
    """The bars of the landing page, and of each story page."""
    with chromium() as browser, served(BUILD / "html") as address:
        for name in [LANDING, *story_pages()]:
            found = measured(browser, address, name)
            detail = ", ".join(f"{key} {value:.4g}" for key, value in found.items())
            if name == LANDING:
                yield Row(f"{name}: kB packed", found["kB"], 350, at_most=True, detail=detail)
                yield Row(f"{name}: s until the film moves", found["film"], 5, at_most=True)
            yield Row(f"{name}: s until its formulas are done", found["formulas"], 10, at_most=True, detail=detail)
            yield Row(f"{name}: nodes", found["nodes"], 6000, at_most=True)


def main(words: list[str]) -> int:
    """Measure pages of a folder and print what was found."""
    folder, *names = words
    with chromium() as browser, served(Path(folder)) as address:
        for name in names or [LANDING, *story_pages()]:
            found = measured(browser, address, name)
            print(f"{name:<34}", ", ".join(f"{key} {value:.4g}" for key, value in found.items()), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
