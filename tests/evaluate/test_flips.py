"""The figure of flips over certified radii is an SVG that says what is needed."""

from __future__ import annotations

import base64
from types import SimpleNamespace

import numpy as np
import pytest

from natgeo.errors import DataError
from natgeo.report.flips import flips_figure


def drawn(radius, flips, distances):
    made = flips_figure(
        SimpleNamespace(
            radius=np.array(radius),
            flips=np.array(flips),
            distances=np.array(distances),
        )
    )
    head, _, body = made.partition(",")
    assert head == "data:image/svg+xml;base64"
    return base64.b64decode(body).decode()


def test_the_figure_shows_certified_pairs_and_the_radius_that_is_needed():
    args = [0.0, 0.1, 0.3, 0.02], [0.5, 0.1, 0.0, 0.4], [1.0, 2.5, 4.0]
    text = drawn(*args)
    assert "half of the resamples within 2.5" in text
    assert "certified radius, natural units" in text
    # Ticks are numbers: an SVG shows the source of a formula as it is.
    assert ">0.1<" in text
    assert "$" not in text
    # Three markers: the pair without a radius is not drawn.
    marks = text.partition("PathCollection_1")[2].partition('<g id="')[0]
    assert marks.count("<use ") == 3
    assert drawn(*args) == text
    with pytest.raises(DataError, match="nothing to draw"):
        drawn([0.0, -1.0], [0.5, 0.5], [1.0])
