"""Frames of the playground on a processor slowed four times, in Chromium; needs a browser and no built book."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

from playwright.sync_api import sync_playwright

from benchmarks import Row
from book.browser import bring
from book.execute import ROOT
from book.takeaway import FLAGS

SLOWER, SECONDS = 4, 6
PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<link rel="stylesheet" href="{0}/playground.css"><script defer src="{0}/algorithm.js"></script>
<script defer src="{0}/limit.js"></script><script defer src="{0}/playground.js"></script>
<div class="playground"></div>"""
COUNT = """
(seconds) => new Promise((done) => {
  const times = [], tick = (now) => {
    times.push(now);
    if (now - times[0] < 1000 * seconds) return requestAnimationFrame(tick);
    const gaps = times.slice(1).map((t, k) => t - times[k]).sort((a, b) => a - b);
    done([1000 * gaps.length / (times.at(-1) - times[0]), gaps[Math.floor(0.95 * gaps.length)]]);
  };
  requestAnimationFrame(tick);
})
"""


def rows() -> Iterator[Row]:
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        path = Path(folder) / "index.html"
        path.write_text(PAGE.format((ROOT / "book" / "playground").as_uri()))
        browser = playwright.chromium.launch(executable_path=bring(), args=list(FLAGS))
        for problem in ("quadratic", "himmelblau"):
            for agents in (500, 2000):
                page = browser.new_context(viewport={"width": 390, "height": 844}, device_scale_factor=2).new_page()
                page.goto(f"{path.as_uri()}#problem={problem}&N={agents}")
                page.wait_for_function("document.querySelector('.playground').dataset.playing === 'true'")
                page.wait_for_timeout(1000)
                page.context.new_cdp_session(page).send("Emulation.setCPUThrottlingRate", {"rate": SLOWER})
                page.wait_for_timeout(1500)
                rate, slow = page.evaluate(COUNT, SECONDS)
                what = f"playground, {problem}, N = {agents:,}: frames per second, {SLOWER} times slower"
                yield Row(what, rate, 30, detail=f"95 of 100 frames within {slow:.0f} ms")
                page.context.close()
        browser.close()
