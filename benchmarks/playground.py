"""Frames of the playground on a processor slowed four times, in Chromium; needs a browser and no built book."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

from playwright.sync_api import CDPSession

from benchmarks import Row
from book.execute import ROOT
from book.takeaway import chromium

SLOWER, SECONDS = 4, 5
PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<link rel="stylesheet" href="{0}/playground.css"><script defer src="{0}/algorithm.js"></script>
<script defer src="{0}/limit.js"></script><script defer src="{0}/playground.js"></script>
<div class="playground"></div>"""
COUNT = """
(seconds) => new Promise((done) => {
  let first, frames = 0;
  const tick = (now) => {
    first ??= now;
    if (now - first >= 1000 * seconds) return done([frames, (now - first) / 1000]);
    frames++;
    requestAnimationFrame(tick);
  };
  requestAnimationFrame(tick);
})
"""


def spent(devtools: CDPSession) -> float:
    """Processor time of the page's main thread [s]: what other processes of the machine do does not count."""
    metrics = {metric["name"]: metric["value"] for metric in devtools.send("Performance.getMetrics")["metrics"]}
    return metrics["TaskDuration"]


def rows() -> Iterator[Row]:
    with tempfile.TemporaryDirectory() as folder, chromium() as browser:
        path = Path(folder) / "index.html"
        path.write_text(PAGE.format((ROOT / "book" / "playground").as_uri()))
        for problem in ("quadratic", "himmelblau"):
            for agents in (500, 2000):
                page = browser.new_context(viewport={"width": 390, "height": 844}, device_scale_factor=2).new_page()
                page.goto(f"{path.as_uri()}#problem={problem}&N={agents}")
                page.wait_for_function("document.querySelector('.playground').dataset.playing === 'true'")
                page.wait_for_timeout(1000)
                devtools = page.context.new_cdp_session(page)
                devtools.send("Performance.enable", {"timeDomain": "threadTicks"})
                devtools.send("Emulation.setCPUThrottlingRate", {"rate": 1})
                before = spent(devtools)
                frames, _ = page.evaluate(COUNT, SECONDS)
                each = SLOWER * 1000 * (spent(devtools) - before) / max(frames, 1)
                devtools.send("Emulation.setCPUThrottlingRate", {"rate": SLOWER})
                page.wait_for_timeout(1500)
                frames, seconds = page.evaluate(COUNT, SECONDS)
                what = f"playground, {problem}, N = {agents:,}"
                yield Row(f"{what}: {SLOWER} × processor time of a frame [ms]", each, 1000 / 30, at_most=True)
                yield Row(f"{what}: frames per second, {SLOWER} times slower", frames / seconds, 30)
                page.context.close()
