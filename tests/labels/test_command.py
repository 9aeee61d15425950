"""`natgeo scan` as a new user meets it: folders and tables, no Python."""

from __future__ import annotations

import csv
import json

import flax.linen as nn
import jax
import numpy as np
import pytest
from PIL import Image

from natgeo.labels import builtin
from tests.test_cli import run

pytest.importorskip("sklearn", reason="the digits come with scikit-learn")


@pytest.fixture(autouse=True)
def relaxed():
    # Optax does not promise strict promotion; the user's process does not ask for it.
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


def digits(count, classes):
    from sklearn.datasets import load_digits

    bunch = load_digits(n_class=classes)
    return bunch.images[:count] / 16, bunch.target[:count]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """360 digits of four classes as PNG files, one in twenty in a wrong folder."""
    root = tmp_path_factory.mktemp("digits")
    images, truth = digits(360, 4)
    rng = np.random.default_rng(0)
    moved = rng.choice(360, 18, replace=False)
    folders = truth.copy()
    folders[moved] = (truth[moved] + rng.integers(1, 4, 18)) % 4
    wrong = set()
    for number, (image, label) in enumerate(zip(images, folders, strict=True)):
        place = root / f"digit {label}" / f"{number:03d}.png"
        place.parent.mkdir(exist_ok=True)
        Image.fromarray((image * 255).astype(np.uint8)).save(place)
        if number in moved:
            wrong.add(f"digit {label}/{number:03d}.png")
    return root, wrong, {f"{n:03d}.png": int(t) for n, t in enumerate(truth)}


def decided(result, path, truth, accept=()):
    """Decisions of a reviewer who knows the truth, about everything in the queue."""
    review = json.loads(result.read_text())["review"]
    classes = review["classes"]
    rows = []
    for row in review["queue"]:
        right = classes.index(truth(row["name"]))
        kind = "accept" if right == row["given"] else "relabel"
        rows.append([review["fingerprint"], review["examples"], row["index"], kind])
        rows[-1] += [row["given"], right]
    with open(path, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow("fingerprint examples index decision given label".split())
        writer.writerows(rows)


class Flat(nn.Module):
    """In the place of the residual network, which takes half a minute to compile."""

    classes: int

    @nn.compact
    def __call__(self, x):
        return nn.Dense(self.classes)(x.reshape(x.shape[0], -1))


@pytest.mark.parametrize(
    "network", ["flat", pytest.param("residual", marks=pytest.mark.slow)]
)
def test_a_folder_of_images_from_the_scan_to_the_cleaned_labels(
    network, folder, tmp_path, monkeypatch, capsys
):
    if network == "flat":
        monkeypatch.setattr(builtin, "_module", lambda x, classes: Flat(classes))
    root, wrong, truth = folder
    result, page = tmp_path / "scan.json", tmp_path / "scan.html"
    words = f"scan --images {root} --epochs 12 --result {result} --report {page}"
    code, out, err = run(monkeypatch, capsys, *words.split())
    assert code == 0, err
    review = json.loads(result.read_text())["review"]
    worst = [row["name"] for row in review["queue"][:10]]
    assert len(set(worst) & wrong) >= 9
    assert all(name in out for name in worst)
    queued = {row["name"] for row in review["queue"]}
    assert len(queued & wrong) == len(wrong)
    assert all(row["thumbnail"].startswith("data:image/png") for row in review["queue"])
    assert "review-tool" in page.read_text()

    decisions, cleaned = tmp_path / "decisions.csv", tmp_path / "cleaned.csv"
    decided(result, decisions, lambda name: f"digit {truth[name[-7:]]}")
    words = f"scan --apply {decisions} --images {root} --out {cleaned} --json"
    code, out, err = run(monkeypatch, capsys, *words.split())
    assert code == 0, err
    assert json.loads(out)["changed"] == len(wrong)
    with open(cleaned, newline="") as file:
        rows = {row["example"]: row["label"] for row in csv.DictReader(file)}
    assert rows == {row: f"digit {truth[row[-7:]]}" for row in rows}, (
        "every wrong label was queued and corrected"
    )

    # Another file in the folder: these are other data now.
    extra = root / "digit 0" / "zzz.png"
    extra.write_bytes((root / worst[0]).read_bytes())
    try:
        words = f"scan --apply {decisions} --images {root} --out {cleaned}"
        code, _, err = run(monkeypatch, capsys, *words.split())
    finally:
        extra.unlink()
    assert code == 3
    assert "about 360 examples" in err


def test_a_table_with_what_cleaning_buys(tmp_path, monkeypatch, capsys):
    images, truth = digits(400, 4)
    rng = np.random.default_rng(1)
    given = truth.copy()
    flipped = rng.choice(300, 60, replace=False)
    given[flipped] = (truth[flipped] + 1) % 4
    table, test = tmp_path / "table.csv", tmp_path / "test.csv"
    for path, part, labels in (
        (table, slice(300), given),
        (test, slice(300, 400), truth),
    ):
        with open(path, "w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow([*(f"p{i}" for i in range(64)), "digit"])
            for image, label in zip(images[part], labels[part], strict=True):
                writer.writerow([*image.ravel(), f"[i]digit {label}"])
    result = tmp_path / "scan.json"
    words = f"scan --table {table} --label digit --result {result} --queue 120"
    code, out, err = run(monkeypatch, capsys, *words.split())
    assert code == 0, err
    found = [row["index"] for row in json.loads(result.read_text())["review"]["queue"]]
    assert len(set(found[:60]) & set(flipped)) > 45
    assert f"line {found[0] + 2}" in out
    assert "[i]digit" in out  # no markup
    assert "Columns left out: 'p0' has one value" in out
    assert "trees" in json.loads(result.read_text())["provenance"]["opinions"]

    decisions, cleaned = tmp_path / "decisions.csv", tmp_path / "cleaned.csv"
    decided(result, decisions, lambda name: f"[i]digit {truth[int(name[5:]) - 2]}")
    words = (
        f"scan --apply {decisions} --table {table} --label digit --out {cleaned} "
        f"--compare --test {test} --epochs 20 --json"
    )
    code, out, err = run(monkeypatch, capsys, *words.split())
    assert code == 0, err
    accuracy = {k: np.mean(v) for k, v in json.loads(out)["comparison"].items()}
    assert accuracy["after"] > accuracy["before"]
    assert accuracy["after"] > accuracy["removed at random"]
    with open(cleaned, newline="") as file:
        labels = [row["digit"] for row in csv.DictReader(file)]
    right = sum(
        label == f"[i]digit {t}" for label, t in zip(labels, truth, strict=False)
    )
    assert right > 300 - 60 + 50


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        ("scan", 2, "none was named"),
        ("scan a --images b", 2, "STORE and --images were named"),
        ("scan --table t.csv", 2, "--table needs --label"),
        ("scan --images none", 2, "not a folder of images"),
        ("scan --images . --out x.csv", 2, "--out needs --apply"),
        ("scan --images . --queue 0", 2, "--queue=0"),
        ("scan --images . --eps -1", 2, "--eps=-1"),
        ("scan --apply d.csv", 2, "--apply needs what was scanned"),
        ("scan --apply d.csv --labels y.npy", 2, "--apply needs --out"),
        ("scan --apply d.csv --labels y.npy --out o.npy", 2, "d.csv is not a file"),
        (
            "scan --apply d.csv --labels y.npy --out o.npy --compare",
            2,
            "--compare trains a built-in model",
        ),
    ],
)
def test_what_a_person_gets_wrong(words, code, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    found, _, err = run(monkeypatch, capsys, *words.split())
    assert found == code
    assert message in err
    assert len(err.splitlines()) == 1
