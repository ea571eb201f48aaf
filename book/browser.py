"""The browser that looks at the pages and prints them: found on this machine, or else brought to it.

python -m book.browser    find a Chromium or install one; say in one line if there is none to be had
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path

LOG = Path(__file__).resolve().parent.parent / "_build" / "browser.log"
HOW = "install Chromium or Chrome, or set CHROMIUM to the path of one"
NONE = f"no Chromium on this machine, and none could be installed ({HOW})"


def main() -> int:
    """Command line: bring a browser; a machine without one is no error."""
    if bring() is None:
        print(f"The tests of the pages will not run: {NONE}.")
    return 0


def bring(
    find: Callable[[], str | None] | None = None, installers: Iterable[Callable[[], bool]] | None = None
) -> str | None:
    """Return the path of a Chromium, installing one if this machine has none.

    Parameters
    ----------
    find : callable, optional
        Returns the path of a browser that starts, or None; by default `chromium_path`.
    installers : iterable of callable, optional
        Ways to install one, tried in order until one succeeds and `find` finds what it brought; by default
        Playwright's own download, then Debian's package.
    """
    look = find or chromium_path
    if path := look():
        return path
    for install in (playwright_download, debian_package) if installers is None else installers:
        if install():
            chromium_path.cache_clear()
            if path := look():
                return path
    return None


@cache
def chromium_path() -> str | None:
    """Where the Chromium of this machine is: what CHROMIUM names, on the PATH, or Playwright's own; None without.

    Raises
    ------
    SystemExit
        If CHROMIUM names something that does not start.
    """
    if named := os.environ.get("CHROMIUM"):
        if not starts(named):
            raise SystemExit(f"CHROMIUM is {named!r}; it must be the path of a Chromium or Chrome that starts.")
        return named
    on_path = (shutil.which(name) for name in ("chromium", "chromium-browser", "google-chrome"))
    return next((path for path in (*on_path, playwrights_own()) if path and starts(path)), None)


def starts(path: str) -> bool:
    """Whether this is a program that starts: a browser without its libraries does not."""
    try:
        return subprocess.run([path, "--version"], capture_output=True, timeout=60, check=False).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def playwrights_own() -> str | None:
    """Where Playwright keeps the browser that it downloads, whether or not it has done so."""
    ask = "from playwright.sync_api import sync_playwright as s\nwith s() as p: print(p.chromium.executable_path)"
    try:
        done = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True, timeout=60, check=False)
    except subprocess.TimeoutExpired:
        return None
    return done.stdout.strip() or None


def playwright_download() -> bool:
    """Let Playwright download its browser."""
    return _run(sys.executable, "-m", "playwright", "install", "chromium")


def debian_package() -> bool:
    """Install Debian's package, as root on Debian."""
    if shutil.which("apt-get") is None or not hasattr(os, "geteuid") or os.geteuid() != 0:
        return False
    return _run("apt-get", "update") and _run("apt-get", "install", "-y", "--no-install-recommends", "chromium")


def _run(*words: str) -> bool:
    print(f"No Chromium yet: {' '.join(Path(word).name for word in words)} (words in {LOG})", flush=True)
    LOG.parent.mkdir(parents=True, exist_ok=True)
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    with LOG.open("a") as log:
        try:
            done = subprocess.run(words, stdout=log, stderr=log, env=environment, timeout=900, check=False)
        except subprocess.TimeoutExpired:
            return False
    return done.returncode == 0


if __name__ == "__main__":
    raise SystemExit(main())
