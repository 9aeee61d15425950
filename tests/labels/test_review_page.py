"""The review page in a browser: real keys and clicks, hostile data, saved files.

Needs Debian's `chromium` (or another Chromium on the path) and the extra `browser`.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import json
import re
import shutil

import numpy as np
import pytest

from natgeo.labels.decisions import fingerprint, read_decisions
from natgeo.report.page import render
from natgeo.report.thumbnails import png_data_uri

sync_api = pytest.importorskip(
    "playwright.sync_api", reason="a browser test needs natgeo[browser]"
)
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="no chromium here: apt-get install chromium"
)

CLASSES = ["cat", "=cmd|'/c calc'!A1", "</script><script>document.title='run'</script>"]
HOSTILE = "<img src=x onerror=\"document.title='run'\">\u202egnp.exe\"'{{7*7}}"
LABELS = np.arange(300) % 3


def document(size=300, queued=150):
    rng = np.random.default_rng(0)
    queue = [
        {
            "index": size - 1 - rank,
            "rank": rank + 1,
            "score": 1 - rank / size,
            "given": int((size - 1 - rank) % 3),
            "suggested": int((size - rank) % 3),
            "confidence": 0.9,
            "given_probability": 0.05,
            "name": HOSTILE if rank == 1 else f"a/b-{rank}.png",
            "thumbnail": png_data_uri(rng.random((8, 8))),
            "supports_given": [0, 1],
            "supports_suggested": [2],
            "lowest": rank + 1,
            "highest": min(rank + 9, size),
        }
        for rank in range(queued)
    ]
    others = {str(i): {"given": i % 3, "name": HOSTILE} for i in range(3)}
    return {
        "natgeo": "0.1.0",
        "format": 1,
        "kind": "scan",
        "title": "Which labels look wrong",
        "review": {
            "fingerprint": fingerprint(np.arange(size) % 3),
            "examples": size,
            "classes": CLASSES,
            "detector": "loss",
            "queue": queue,
            "others": others,
            "confusion": [{"given": 0, "suggested": 1, "count": 4}],
            "histogram": {"edges": [0, 1, 2], "counts": [200, 100], "cut": 1.5},
        },
    }


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as running:
        made = running.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"]
        )
        yield made
        made.close()


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "scan.html"
    path.write_text(render(document()))
    return path


@pytest.fixture
def page(browser, file):
    """A fresh browser profile with the page open; any error or request fails."""
    context = browser.new_context(accept_downloads=True)
    opened = context.new_page()
    trouble = []
    opened.on("pageerror", lambda error: trouble.append(str(error)))
    opened.on(
        "console",
        lambda message: message.type == "error" and trouble.append(message.text),
    )
    asked = []
    opened.on("request", lambda request: asked.append(request.url))
    opened.goto(file.as_uri())
    yield opened
    assert trouble == []
    outside = {url for url in asked if not url.startswith(("data:", "blob:"))}
    assert outside == {file.as_uri()}
    context.close()


def saved(page, button):
    with page.expect_download() as waiting:
        page.click(button)
    return waiting.value


def test_keys_decide_move_and_undo(page, tmp_path):
    assert page.inner_text("#title").startswith("Rank 1")
    page.keyboard.press("r")  # to the suggested label
    assert page.inner_text("#title").startswith("Rank 2")
    page.keyboard.press("a")
    page.keyboard.press("s")
    page.keyboard.press("r")
    page.keyboard.press("u")  # takes the last one back
    assert page.inner_text("#title").startswith("Rank 4")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    assert page.inner_text("#title").startswith("Rank 2")
    assert page.get_attribute("#accept", "aria-pressed") == "true"
    assert "3 of 150 reviewed: 1 kept, 1 relabelled, 1 skipped" in page.inner_text(
        "#done"
    )
    path = tmp_path / "decisions.csv"
    saved(page, "#csv").save_as(path)
    made = read_decisions(path)
    assert [(row.index, row.kind) for row in made.rows] == [
        (299, "relabel"),
        (298, "accept"),
        (297, "skip"),
    ]
    cleaned = made.apply(LABELS)
    np.testing.assert_array_equal(np.flatnonzero(cleaned != LABELS), [299])
    assert cleaned[299] == (LABELS[299] + 1) % 3


def test_the_mouse_does_the_same_with_another_class(page, tmp_path):
    page.click("#list li:nth-child(3) button")
    assert page.inner_text("#title").startswith("Rank 3")
    page.select_option("#to", "2" if LABELS[297] != 2 else "1")
    page.click("#relabel")
    page.click("#skip")
    page.click("#undo")
    path = tmp_path / "decisions.json"
    saved(page, "#json").save_as(path)
    (row,) = read_decisions(path).rows
    assert (row.index, row.kind, row.label) == (297, "relabel", 2)
    body = json.loads(path.read_text())
    assert body["classes"][0] == "cat"


def test_a_label_cannot_become_itself(page):
    page.select_option("#to", str(LABELS[299]))
    page.click("#relabel")
    assert page.inner_text("#title").startswith("Rank 1")
    assert "the label it has" in page.inner_text("#status")
    assert page.is_disabled("#csv")


def test_hostile_strings_are_shown_and_do_nothing(page, tmp_path):
    page.keyboard.press("ArrowRight")  # the example with the hostile name
    shown = page.inner_text("#title")
    assert "<img src=x onerror=" in shown
    assert "[U+202E]gnp.exe" in shown
    assert page.title() == "Which labels look wrong · natgeo"
    assert page.locator("script").count() == 2
    assert page.locator("#title img").count() == 0
    page.keyboard.press("a")
    path = tmp_path / "decisions.csv"
    saved(page, "#csv").save_as(path)
    (line,) = csv.DictReader(io.StringIO(path.read_text(), newline=""))
    for cell in line.values():
        assert cell[:1] not in {"=", "+", "-", "@", "\t", "\r"}
    assert LABELS[298] == 1  # whose name is a formula
    assert line["given_name"] == "'" + CLASSES[1]


def test_decisions_survive_a_reload_of_the_file(page):
    page.keyboard.press("r")
    page.keyboard.press("a")
    assert "kept in this browser" in page.inner_text("#kept")
    page.reload()
    assert "2 of 150" in page.inner_text("#done")
    assert page.inner_text("#title").startswith("Rank 3")  # the first open one


def test_the_queue_comes_in_pages_and_the_keyboard_reaches_all(page):
    assert page.locator("#list li").count() == 60
    page.click("#page-on")
    assert page.inner_text("#title").startswith("Rank 61")
    page.keyboard.press("ArrowLeft")
    assert page.inner_text("#page") == "1 to 60 of 150"
    page.focus("#accept")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "relabel"
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid"
    page.focus("#to")
    page.keyboard.press("a")  # belongs to the list, not to the review
    assert "0 of 150" in page.inner_text("#done")


@pytest.mark.parametrize("width", [1200, 390])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_overflows_and_text_stands_out(browser, file, width, scheme):
    context = browser.new_context(
        viewport={"width": width, "height": 900}, color_scheme=scheme
    )
    opened = context.new_page()
    opened.goto(file.as_uri())
    inside = opened.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert inside, "the page scrolls sideways"
    for place in ("#done", "#title", "#accept", ".why h3", "#kept"):
        assert contrast(opened, place) > 4.5, place
    context.close()


def contrast(page, place):
    """Contrast ratio of WCAG between the text and what is behind it."""
    colours = page.evaluate(
        """(place) => {
            let node = document.querySelector(place), behind = "rgba(0, 0, 0, 0)";
            const ink = getComputedStyle(node).color;
            for (; node && /, 0\\)/.test(behind); node = node.parentElement)
                behind = getComputedStyle(node).backgroundColor;
            return [ink, behind];
        }""",
        place,
    )
    lights = []
    for colour in colours:
        rgb = np.array([float(n) for n in re.findall(r"[\d.]+", colour)[:3]]) / 255
        linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
        lights.append(float(linear @ [0.2126, 0.7152, 0.0722]))
    return (max(lights) + 0.05) / (min(lights) + 0.05)


def test_the_policy_names_the_one_script_and_refuses_any_other(browser, file, tmp_path):
    html = file.read_text()
    script = re.findall(r"<script>(.*?)</script>", html, re.DOTALL)
    assert len(script) == 1
    digest = base64.b64encode(hashlib.sha256(script[0].encode()).digest()).decode()
    (policy,) = re.findall(r'Content-Security-Policy" content="([^"]*)"', html)
    assert f"script-src 'sha256-{digest}'" in policy
    assert "unsafe-inline" not in policy.partition("script-src")[2]
    assert "default-src 'none'" in policy
    changed = tmp_path / "changed.html"
    changed.write_text(html.replace('"use strict";', '"use strict"; /* */', 1))
    context = browser.new_context()
    opened = context.new_page()
    opened.goto(changed.as_uri())
    assert not opened.is_visible("#review-tool")  # the changed script did not run
    context.close()


@pytest.mark.slow
def test_a_full_queue_of_fifty_thousand_examples_stays_usable(browser, tmp_path):
    path = tmp_path / "large.html"
    path.write_text(render(document(size=50_000, queued=10_000)))
    assert path.stat().st_size < 12 * 2**20
    context = browser.new_context()
    opened = context.new_page()
    opened.goto(path.as_uri())
    assert opened.locator("#list li").count() == 60
    took = opened.evaluate(
        """() => {
            const start = performance.now();
            for (let i = 0; i < 20; i += 1)
                document.dispatchEvent(new KeyboardEvent("keydown", { key: "a" }));
            return (performance.now() - start) / 20;
        }"""
    )
    assert "20 of 10000" in opened.inner_text("#done")
    assert took < 200, "milliseconds for a decision"
    context.close()
