"""The report room: documents are checked, and pages are inert and reproducible."""

from __future__ import annotations

import base64
import copy
import io
import json
import re
import subprocess
import sys
import xml.etree.ElementTree
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from natgeo import display
from natgeo.errors import ArgumentError, DataError, StoreError
from natgeo.report import curve_figures, interval_figures, scan_figures
from natgeo.report.document import check_document, read_document, write_document
from natgeo.report.page import render, write_report
from natgeo.report.thumbnails import png_data_uri

HOSTILE = "</script><script>alert(1)</script>\"'{{7*7}}\u202egnp.exe\x1b[31m<img src=x>"


def picture(seed):
    return png_data_uri(np.random.default_rng(seed).random((8, 8)), scale=4)


def proponent(i):
    return {
        "index": 812 + 37 * i,
        "label": str(i % 10),
        "flipped": [True, False, None][i % 3],
        "score": 12.3 / (i + 1),
        "lowest": 1 + i,
        "highest": [1 + i, 9 + 3 * i, 1500][i % 3] if i else 1500,
        "thumbnail": picture(i),
        **({"lowest": 1} if i % 3 == 2 else {}),
    }


def full():
    radii = np.geomspace(1e-4, 0.9, 21)
    radii[10] = 0.01
    return {
        "natgeo": "0.1.0",
        "format": 1,
        "kind": "demo",
        "title": "Certified attribution of handwritten digits",
        "summary": [
            {"label": "Test accuracy", "value": "97.6 %", "note": "297 digits"},
            {"label": "Certified pairs", "value": "81.8 %"},
        ],
        "guarantee": {
            "says": "For the 1,500 stored feature vectors, point 812 keeps its rank.",
            "does_not_say": ["Nothing about retraining.", "Nothing about ties."],
            "scale": {
                "says": ["eps = 0.01 is 3 % of what one example moves."],
                "rows": [
                    {"change": "one example shifted", "covariance": 0.3, "moved": 0.9},
                    {"change": "an unknown one", "covariance": None, "moved": 2.5},
                ],
            },
        },
        "geometry": {
            "N": 1500,
            "M": 64,
            "K": 256,
            "ridge": 0.0,
            "condition": 3163.2,
            "effective_dimension": 256.0,
            "spectral_amplification": 9.6,
            "eta": 1.1e-10,
            "sha256": "3f" * 32,
        },
        "curve": {
            "radii": radii.tolist(),
            "euclidean_radii": (0.98 * radii).tolist(),
            "certified": (1 / (1 + (radii / 0.03) ** 1.6)).tolist(),
            "sensitivity_natural": (0.9 / (1 + (radii / 5e-4) ** 2)).tolist(),
            "sensitivity_euclidean": (0.02 / (1 + radii / 1e-4)).tolist(),
            "matched": 0.98,
            "targets": 64,
            "pairs": 1124250,
        },
        "targets": [
            {
                "target": 3,
                "label": "7",
                "predicted": "1",
                "thumbnail": picture(99),
                "eps": 0.01,
                "proponents": [proponent(i) for i in range(10)],
                "top_k": {"k": 10, "inside": 3, "undecided": 16, "outside": 1481},
            },
            {"target": 4, "eps": 0.01, "proponents": [proponent(1)]},
        ],
        "pair": {
            "target": 3,
            "above": 812,
            "below": 4411,
            "claim": "Training point 812 keeps a larger score than point 4411.",
            "radius": 0.0123459,
            "status": "certified",
            "eps": 0.01,
            "thumbnails": {"target": picture(99), "above": picture(0), "below": None},
            "counterexample": {
                "cost": 0.01234601,
                "gap_before": 3.78,
                "gap_after": -3.7e-6,
                "flips": True,
            },
        },
        "scan": {
            "known_flips": 150,
            "detectors": [
                {
                    "name": "self-influence",
                    "auroc": 0.997,
                    "recall_at_20": 0.99,
                    "recall_curve": [[0, 0], [0.1, 0.9], [0.2, 0.99], [1, 1]],
                },
                {"name": "loss", "auroc": 0.991, "recall_at_20": 0.97},
            ],
            "suspicious": [
                {
                    "index": 17 + rank,
                    "rank": rank,
                    "score": 83.1 / rank,
                    "given": "3",
                    "suggested": "8",
                    "flipped": rank % 4 != 0,
                    "certified_top": rank < 3,
                    "thumbnail": picture(rank),
                }
                for rank in range(1, 9)
            ],
        },
        "provenance": {"data": "digits", "seed": "0"},
    }


def minimal(kind="demo"):
    return {"natgeo": "0.1.0", "format": 1, "kind": kind, "title": "A title"}


class Page(HTMLParser):
    """Elements, attributes and text of a page."""

    def __init__(self, html):
        super().__init__(convert_charrefs=True)
        self.tags, self.attributes, self.words = [], [], []
        self.feed(html)
        self.close()
        self.text = "".join(self.words)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_data(self, data):
        self.words.append(data)


def svg_of(uri):
    head, _, body = uri.partition(",")
    assert head == "data:image/svg+xml;base64"
    return base64.b64decode(body, validate=True).decode()


def assert_self_contained(page):
    assert not {"script", "iframe", "object", "embed", "link", "base", "form"} & set(
        page.tags
    )
    for tag, name, value in page.attributes:
        assert not name.startswith("on"), (tag, name)
        assert name not in ("href", "action", "background", "formaction", "ping")
        if name in ("src", "srcset"):
            assert tag in ("img", "source")
            assert value.startswith(("data:image/png;base64,", "data:image/svg+xml;"))
        if name == "style":
            assert "url" not in value


def test_the_page_shows_everything_in_the_document():
    page = Page(render(full()))
    assert_self_contained(page)
    text = " ".join(page.text.replace("\u00a0", " ").split())
    for words in (
        "Certified attribution of handwritten digits",
        "97.6 %",
        "point 812 keeps its rank",
        "Nothing about retraining.",
        "1,124,250 pairs",
        "first-order sensitivity (not a certificate)",
        "no proof found; this does not mean that the order is fragile",
        "3 certified in the top 10",
        "1,481 certified outside",
        "wrong prediction",
        "order swapped at 0.012347",
        "Certified radius0.012345",
        "−3.7 × 10⁻⁶",
        "150 labels were flipped on purpose",
        "self-influence",
        "given 3 → 8",
        "3f" * 32,
    ):
        assert words in text, words
    csp = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    assert ("meta", "content", csp) in page.attributes


@pytest.mark.parametrize("kind", ["demo", "certify", "scan", "attribution", "convex"])
def test_a_document_may_hold_nothing_but_a_title(kind):
    page = Page(render(minimal(kind)))
    assert_self_contained(page)
    assert "A title" in page.text
    assert "img" not in page.tags
    assert "section" not in page.tags


def test_every_section_can_stand_alone():
    document = full()
    for name in list(document)[4:]:
        assert_self_contained(Page(render(minimal() | {name: document[name]})))


def test_optional_fields_may_be_absent_or_null():
    document = minimal() | {
        "guarantee": {"says": "Something."},
        "geometry": {"N": 3, "K": 2, "condition": None},
        "curve": {"radii": [0.1, 0.2], "certified": [0.0, 0.0], "matched": None},
        "targets": [{"target": 0, "proponents": []}],
        "pair": {
            "target": 0,
            "above": 1,
            "below": 2,
            "claim": "Undecided: a tie.",
            "radius": 0,
            "status": "undecided",
            "counterexample": None,
        },
        "scan": {"suspicious": [{"index": 0, "rank": 1, "score": 1.5}]},
        "provenance": {"seed": None},
    }
    page = Page(render(document))
    assert_self_contained(page)
    assert "Undecided: a tie." in page.text
    assert "None" not in page.text
    assert check_document(check_document(document)) == check_document(document)


def test_the_same_document_gives_the_same_bytes(tmp_path):
    write_report(full(), tmp_path / "a.html")
    first = (tmp_path / "a.html").read_bytes()
    code = (
        "import sys; from natgeo.report.document import read_document as r;"
        "from natgeo.report.page import write_report as w; w(r(sys.argv[1]), 'b.html')"
    )
    write_document(full(), tmp_path / "d.json")
    run = [sys.executable, "-W", "error", "-c", code, "d.json"]
    subprocess.run(run, cwd=tmp_path, check=True, env={"MPLCONFIGDIR": str(tmp_path)})
    assert (tmp_path / "b.html").read_bytes() == first
    assert render(full()).encode() == first


def hostile(value):
    if isinstance(value, dict):
        free = {"label", "value", "note", "says", "claim", "predicted", "name"}
        free |= {"given", "suggested", "title", "data", "change"}
        return {
            key: HOSTILE if key in free and isinstance(entry, str) else hostile(entry)
            for key, entry in value.items()
        }
    if isinstance(value, list):
        return [hostile(entry) for entry in value]
    return value


def test_hostile_strings_are_shown_and_do_nothing():
    document = hostile(full())
    document["guarantee"]["does_not_say"] = [HOSTILE]
    document["provenance"] = {HOSTILE: HOSTILE, "$x^2$": "$\\frac{1}{0}$"}
    document["scan"]["detectors"][0]["name"] = "$\\frac{" + HOSTILE
    html = render(document)
    page = Page(html)
    assert_self_contained(page)
    assert sorted(set(page.tags)) == sorted(set(Page(render(full())).tags))
    assert "{{7*7}}" in html
    assert not re.search(r"\b49\b", page.text)
    assert "</script><script>alert(1)</script>" in page.text
    assert "[U+202E]gnp.exe" in page.text
    assert "\\x1b[31m" in page.text
    assert not any(c in html for c in "\u202e\x1b\x00")
    for uri in (value for _, name, value in page.attributes if name == "src"):
        if "svg" in uri:
            assert "<script" not in svg_of(uri)
            xml.etree.ElementTree.fromstring(svg_of(uri))


def test_user_words_are_isolated_from_the_line_around_them():
    page = render(minimal() | {"title": "\u05d0\u05d1\u05d2 ABC"})
    assert "<h1><bdi>\u05d0\u05d1\u05d2 ABC</bdi></h1>" in page
    render(minimal() | {"title": "\ud800 unpaired"}).encode()


def test_long_lists_are_cut_with_a_note(monkeypatch):
    monkeypatch.setattr("natgeo.report.page.MOST_TARGETS", 1)
    monkeypatch.setattr("natgeo.report.page.MOST_SUSPICIOUS", 3)
    document = full()
    document["targets"] = [document["targets"][0]] * 3
    document["targets"][0]["proponents"] *= 2
    text = Page(render(document)).text
    assert "2 more targets are in the document." in text
    assert "8 more are in the document." in text
    assert "5 more are in the document." in text


MALFORMED = [
    (("kind",), "poem", "kind is 'poem': expected one of 'demo'"),
    (("format",), 2, "format is 2: this natgeo draws format 1"),
    (("format",), True, "format is true: expected a whole number"),
    (("title",), "", "title is '': expected some words"),
    (("title",), 7, "title is 7 (int): expected a string"),
    (("natgeo",), "0.1.0\n<b>", r"natgeo is '0.1.0\n<b>': expected a version"),
    (("sumary",), [], "'sumary' is not a field of this format"),
    (("summary",), {}, "summary is an object with 0 fields: expected a list"),
    (("summary", 1), {"label": "x"}, "summary[1].value is missing"),
    (("guarantee", "says"), "x" * 20_001, "at most 20,000 characters"),
    (("geometry", "N"), 0, "geometry.N is 0 (int): expected a whole number of at"),
    (("geometry", "K"), 2.0, "geometry.K is 2.0 (float): expected a whole number"),
    (("geometry", "N"), 10**5000, "geometry.N is a whole number beyond 2^53"),
    (("geometry", "condition"), float("inf"), "geometry.condition is inf"),
    (("geometry", "eta"), -1.0, "geometry.eta is -1.0 (float): expected a number of"),
    (("geometry", "sha256"), "ab", "geometry.sha256 is 'ab': expected 64 hexadecimal"),
    (("curve", "certified"), [0.5], "curve.certified has 1 values: expected one for"),
    (("curve", "certified", 3), 1.01, "curve.certified[3] is 1.01"),
    (("curve", "certified", 3), float("nan"), "curve.certified[3] is nan"),
    (("curve", "radii", 0), 0.0, "curve.radii[0] is 0: expected positive radii"),
    (("curve", "radii", 5), 1e-5, "curve.radii[5] is 1e-05: expected positive radii"),
    (("targets", 0, "target"), -1, "targets[0].target is -1"),
    (("targets", 0, "proponents", 2, "score"), None, "proponents[2].score is null"),
    (("targets", 0, "proponents", 2, "lowest"), 1501, "[2].lowest is 1501, above"),
    (("targets", 0, "proponents", 2, "highest"), 1501, "[2].highest is 1501: expected"),
    (
        ("targets", 0, "thumbnail"),
        "https://example.com/x.png",
        "targets[0].thumbnail is 'https://example.com/x.png': expected a PNG",
    ),
    (
        ("pair", "thumbnails", "above"),
        'data:image/png;base64,AA==" onload="x',
        "pair.thumbnails.above is",
    ),
    (("pair", "thumbnails", "above"), "data:image/svg+xml;base64,AA==", "expected a P"),
    (("pair", "thumbnails", "above"), "data:image/png;base64,AA==\n", "expected a PNG"),
    (("pair", "status"), "proven", "pair.status is 'proven'"),
    (("pair", "radius"), 0.001, "pair.status is 'certified' with radius 0.001"),
    (("pair", "below"), 812, "pair.below is 812, the same example as pair.above"),
    (("pair", "counterexample", "cost"), 0.012, "cost is 0.012, within the proven"),
    (("pair", "counterexample", "flips"), 1, "flips is 1 (int): expected true or"),
    (("scan", "detectors", 0, "auroc"), "0.9", "scan.detectors[0].auroc is '0.9'"),
    (
        ("scan", "detectors", 0, "recall_curve"),
        [[0, 0.5], [1, 0.2]],
        "scan.detectors[0].recall_curve[1] is [1.0, 0.2], less than the point before",
    ),
    (
        ("scan", "detectors", 0, "recall_curve", 1),
        [0.5],
        "recall_curve[1] has 1 entries: expected 2 to 2",
    ),
    (("scan", "suspicious", 0, "rank"), 0, "scan.suspicious[0].rank is 0"),
    (("provenance", "seed"), 0, "provenance.'seed' is 0 (int): expected a string"),
    (("provenance",), [], "provenance is a list of 0: expected an object"),
]


@pytest.mark.parametrize(
    ("path", "value", "message"), MALFORMED, ids=[f"{m[0]}" for m in MALFORMED]
)
def test_a_malformed_field_is_named(path, value, message):
    document = full()
    place = document
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    with pytest.raises(DataError) as caught:
        check_document(document)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("name", ["natgeo", "format", "kind", "title"])
def test_the_first_four_fields_are_required(name):
    document = minimal()
    del document[name]
    with pytest.raises(DataError, match=f"{name} is missing: add it"):
        check_document(document)


def test_a_document_must_be_a_dict():
    with pytest.raises(ArgumentError, match="document is a list: expected a dict"):
        check_document([])
    with pytest.raises(ArgumentError, match="document is a NoneType"):
        render(None)


def test_checking_does_not_change_the_document():
    document = full()
    before = copy.deepcopy(document)
    check_document(document)
    assert document == before


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"[" * 100_000, "nested too deeply"),
        (b'{"a":' * 100_000, "nested too deeply"),
        (b'{"natgeo": NaN}', "NaN is not JSON and cannot be shown"),
        (b'{"natgeo": -Infinity}', "-Infinity is not JSON"),
        (b"\xff\xfe\x00", "is not readable JSON"),
        (b"{", "is not readable JSON"),
        (b"9" * 10_000, "is not readable JSON"),
        (b"[]", "holds no object"),
        (b'{"format": 1e999}', "natgeo is missing"),
        (b'{"format": 12345678901234567890}', "format is not 1"),
    ],
)
def test_files_that_are_no_documents(tmp_path, data, message):
    file = tmp_path / "result.json"
    file.write_bytes(data)
    with pytest.raises(DataError) as caught:
        read_document(file)
    assert message in str(caught.value)
    assert "result.json" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_files_that_cannot_be_read_or_written(tmp_path, monkeypatch):
    with pytest.raises(ArgumentError, match="is not a file: name a result document"):
        read_document(tmp_path / "none.json")
    with pytest.raises(ArgumentError, match="is not a file"):
        read_document(tmp_path)
    with pytest.raises(StoreError, match="Cannot write"):
        write_report(minimal(), tmp_path / "none" / "report.html")
    monkeypatch.setattr("natgeo.report.document.LARGEST", 2**20)
    (tmp_path / "large.json").write_bytes(b" " * (2**20 + 1))
    with pytest.raises(DataError, match=r"large.json is larger than 1 MiB"):
        read_document(tmp_path / "large.json")
    big = {str(i): "x" * 20_000 for i in range(100)}
    with pytest.raises(DataError, match="The document takes 2 MiB"):
        write_document(minimal() | {"provenance": big}, tmp_path / "big.json")


def test_a_written_document_is_read_back(tmp_path):
    write_document(full(), tmp_path / "d.json")
    assert read_document(tmp_path / "d.json") == check_document(full())
    assert json.loads((tmp_path / "d.json").read_text()) == full()
    broken = full()
    broken["curve"]["certified"][0] = float("nan")
    with pytest.raises(DataError, match=r"curve.certified\[0\] is nan"):
        write_document(broken, tmp_path / "d.json")
    assert read_document(tmp_path / "d.json") == check_document(full())


def test_reading_a_document_imports_neither_jax_nor_matplotlib():
    code = (
        "import sys, natgeo.report.document;"
        "print([m for m in ('jax', 'matplotlib', 'jinja2') if m in sys.modules])"
    )
    run = [sys.executable, "-c", code]
    assert subprocess.run(run, capture_output=True, text=True).stdout == "[]\n"


def test_curves_of_several_data_sets_are_drawn_and_named():
    curve = check_document(full())["curve"]
    less = {**curve, "certified": [share / 2 for share in curve["certified"]]}
    drawing = svg_of(curve_figures.compared_curves({"digits": curve, "CIFAR-10": less}))
    for name in ("digits", "CIFAR-10"):
        for kind in ("certified", "first-order, natural"):
            assert f">{name}, {kind}<" in drawing
    same = svg_of(curve_figures.compared_curves({"digits": curve, "CIFAR-10": curve}))
    assert drawing != same


def test_a_share_is_marked_where_the_curves_cross_it():
    curve = {
        "radii": [1e-3, 1e-2, 1e-1],
        "certified": [1.0, 0.8, 0.2],
        "sensitivity_natural": [0.6, 0.1, 0.0],
    }

    def dots(**more):
        drawing = svg_of(curve_figures.compared_curves({"digits": curve}, **more))
        return drawing.count("<use ")

    none = dots()
    assert dots(level=0.7) == none + 1  # only the certified curve reaches it
    assert dots(level=0.5) == none + 2
    assert dots(level=0.05) == none + 1  # only the first-order curve falls below it
    # Half-way between 0.8 and 0.2 is half-way between the radii, on a log scale.
    assert curve_figures._crossing([1e-2, 1e-1], [0.8, 0.2], 0, 0.5) == pytest.approx(
        10**-1.5
    )


@pytest.mark.parametrize("narrow", [False, True])
def test_the_curve_labels_what_it_draws(narrow):
    curve = check_document(full())["curve"]
    drawing = svg_of(curve_figures.certification_curve(curve, eps=0.01, narrow=narrow))
    xml.etree.ElementTree.fromstring(drawing)
    for words in ("certified", "natural", "Euclidean", "ε = 0.01"):
        assert words in drawing
    assert "dc:date" not in drawing
    curve["sensitivity_euclidean"] = None
    assert "Euclidean" not in svg_of(curve_figures.certification_curve(curve))


def test_figures_do_not_depend_on_the_settings_of_the_user():
    import matplotlib

    target = check_document(full())["targets"][0]
    want = interval_figures.rank_intervals(target, size=1500)
    with matplotlib.rc_context({"lines.color": "red", "font.size": 30}):
        matplotlib.rcParams["text.usetex"] = True
        assert interval_figures.rank_intervals(target, size=1500) == want
        assert matplotlib.rcParams["font.size"] == 30


def test_rank_intervals_are_in_the_figure():
    target = check_document(full())["targets"][0]
    target["proponents"][1]["rank"] = 3
    drawing = svg_of(interval_figures.rank_intervals(target, size=1500))
    assert "#849" in drawing
    assert "2–12" in drawing
    assert "no bound proven" in drawing


def test_detectors_without_a_curve_are_not_drawn():
    assert scan_figures.detector_curves([]) is None
    detector = {"name": "loss", "recall_curve": None}
    assert scan_figures.detector_curves([detector]) is None
    drawn = detector | {"name": "_漢字 $x", "recall_curve": [[0.0, 0.0], [1.0, 1.0]]}
    assert "$x" in svg_of(scan_figures.detector_curves([detector, drawn]))


@pytest.mark.parametrize(
    ("image", "size", "first"),
    [
        (np.linspace(0, 1, 64).reshape(8, 8), (64, 64), 0),
        (np.full((4, 6, 3), 255, np.uint8), (60, 40), (255, 255, 255)),
        (np.ones((100, 30), np.float32), (30, 100), 255),
    ],
)
def test_thumbnails_keep_every_pixel(image, size, first):
    uri = png_data_uri(image)
    assert uri == png_data_uri(image)
    shown = Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2])))
    assert shown.size == size
    assert shown.getpixel((0, 0)) == first
    check_document(
        minimal() | {"pair": full()["pair"] | {"thumbnails": {"above": uri}}}
    )


@pytest.mark.parametrize(
    ("image", "scale", "message"),
    [
        (np.zeros(8), 1, r"image has shape \(8,\): expected \[height, width\]"),
        (np.zeros((8, 8, 4)), 1, r"image has shape \(8, 8, 4\)"),
        (np.zeros((0, 8)), 1, r"image has shape \(0, 8\)"),
        (np.full((8, 8), np.nan), 1, "image holds nan at row 0"),
        (np.full((8, 8), 16.0), 1, "image has values from 16 to 16: expected 0 to 1"),
        (np.zeros((8, 8), np.int64), 1, "image has dtype int64"),
        (np.zeros((8, 8)), 100, "a thumbnail is at most 512 pixels"),
        (np.zeros((8, 8)), 0, "scale=0 must be a whole number"),
    ],
)
def test_unusable_images_are_refused(image, scale, message):
    with pytest.raises((DataError, ArgumentError), match=message):
        png_data_uri(image, scale=scale)


def test_bounds_are_never_rounded_the_flattering_way():
    rng = np.random.default_rng(0)
    for value in 10.0 ** rng.uniform(-3.9, 0, 500):
        assert float(display.at_least(value)) <= value <= float(display.at_most(value))
    for share in rng.random(500):
        shown = display.percent(share).removesuffix("\u00a0%").removeprefix("<\u00a0")
        assert share < 0.001 or float(shown) <= 100 * share < float(shown) + 0.11
    assert display.percent(0.0002) == "<\u00a00.1\u00a0%"
    assert display.short(123456789.0) == "1.235\u00a0×\u00a010⁸"
    assert display.short(0) == "0"
