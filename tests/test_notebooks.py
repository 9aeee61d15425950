"""Every notebook runs from a clean kernel and is stored without outputs."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

nbformat = pytest.importorskip("nbformat")
nbclient = pytest.importorskip("nbclient")

FOLDER = Path(__file__).parent.parent / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
# What each prints when its story came out, and how many figures it draws.
EXPECTED = {
    "01_quick_start": (("keep their order", "AUROC"), 3),
    "02_geometry": (("condition number of Q", "eps = 0.01 covers"), 4),
    "03_label_noise": (
        ("ordered by: ", "plain loss, last checkpoint", "wrong labels corrected"),
        3,
    ),
    "04_your_own_model": (
        (
            "stopped: the disk of the data set went away",
            "the same bytes as a run that never stopped: True",
            "valid: 4 of 4 claims hold",
            "the certificate is not about these data",
        ),
        2,
    ),
    "05_convex_models": (
        (
            "100% of 100 retrained models are inside",
            "half-widths away",
            "keep their order",
            "vacuous=True",
        ),
        1,
    ),
}


def test_every_notebook_is_expected_to_say_something():
    assert NOTEBOOKS
    assert {path.stem for path in NOTEBOOKS} == set(EXPECTED)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_outputs_are_stripped(path):
    notebook = nbformat.read(path, as_version=4)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            assert cell.outputs == []
            assert cell.execution_count is None


@pytest.mark.filterwarnings("default")  # of the kernel's own client, not of natgeo
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_runs(path, monkeypatch):
    # One device and inline figures, as a person has: the simulated devices and the
    # backend without a display belong to this process.
    monkeypatch.setenv("XLA_FLAGS", "")
    monkeypatch.delenv("MPLBACKEND", raising=False)
    monkeypatch.setenv("PYTHONWARNINGS", os.environ.get("PYTHONWARNINGS", ""))
    notebook = nbformat.read(path, as_version=4)
    client = nbclient.NotebookClient(
        notebook, timeout=120, resources={"metadata": {"path": str(FOLDER)}}
    )
    client.execute()
    outputs = [
        output
        for cell in notebook.cells
        if cell.cell_type == "code"
        for output in cell.outputs
    ]
    text = "".join(output.get("text", "") for output in outputs)
    figures = sum("image/png" in output.get("data", {}) for output in outputs)
    words, drawn = EXPECTED[path.stem]
    assert [word for word in words if word not in text] == []
    assert figures == drawn
