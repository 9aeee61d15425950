"""The paper's figures: definitions against plain NumPy, the page, the big model."""

from __future__ import annotations

import json
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import datasets, paper, paper_page, resnet18

CLASSES = 10


def linear_model(data, *, width, epochs, seed):
    """A softmax regression fitted by a few steps, in place of a network."""
    del width, seed

    def apply(params, x):
        return x.reshape(len(x), -1) @ params["w"]

    def loss(params):
        logits = jax.nn.log_softmax(apply(params, jnp.asarray(data.x)))
        return -jnp.mean(logits[jnp.arange(len(data.y)), jnp.asarray(data.y)])

    params = {"w": jnp.zeros((64, CLASSES))}
    step = jax.jit(jax.grad(loss))
    for _ in range(epochs):
        params = jax.tree.map(lambda p, g: p - 2 * g, params, step(params))
    return apply, params


@pytest.fixture(scope="module")
def run():
    data = datasets.synthetic(150, 30)
    return paper.Run(data, "linear", linear_model, 0, 40, 16)


@pytest.fixture(scope="module")
def rows(run):
    """The rows of all four figures, and nothing on standard output to look at."""
    return {name: figure(run) for name, figure in paper.FIGURES.items()}


def natural(run):
    """Q^-1, raw features of both sides and residual weights, in NumPy alone."""
    train, targets = run.features
    phi, target = np.asarray(train, np.float64), np.asarray(targets, np.float64)
    inverse = np.linalg.inv(phi.T @ phi / len(phi))
    return inverse, phi, target, np.asarray(train.column("weights"), np.float64)


def slopes(run):
    """L_nat and L_euc [M, N] by the formulas of certificates.md, section 4."""
    inverse, phi, target, r = natural(run)
    si = np.einsum("nk,kl,nl->n", phi, inverse, phi)
    si_t = np.einsum("nk,kl,nl->n", target, inverse, target)
    nat = 2 * np.sqrt(np.outer(si_t, si)) * np.sqrt(si.max()) * r
    left, right = (np.linalg.norm(part @ inverse, axis=1) for part in (target, phi))
    return nat, 2 * np.outer(left, right) * np.linalg.norm(phi, axis=1).max() * r


def test_amplification_is_what_its_formulas_say(run, rows):
    inverse, phi, target, r = natural(run)
    nat, euc = slopes(run)
    spectrum = np.linalg.eigvalsh(np.linalg.inv(inverse))
    row = rows["amplification"]
    matched = row["matched"]
    norms = (np.linalg.norm(part, axis=1) for part in (target, phi))
    coarse = 2 * np.outer(*norms) * np.linalg.norm(phi, axis=1).max() * r
    coarse /= spectrum[0] ** 2
    assert row["condition"] == pytest.approx(spectrum[-1] / spectrum[0])
    assert row["condition_with_ridge"] < row["condition"]
    assert row["raw"]["median"] == pytest.approx(np.median(euc / nat))
    assert row["slopes"]["max"] == pytest.approx(np.max(euc / nat) * matched)
    assert row["worst_raw"] == pytest.approx(euc.max() / nat.max())
    assert row["worst"] == pytest.approx(euc.max() / nat.max() * matched)
    assert row["norms"]["median"] == pytest.approx(np.median(coarse / nat) * matched)
    assert row["ball"] == pytest.approx(matched / np.sqrt(spectrum[0]))
    assert row["norms"]["median"] > row["slopes"]["median"]


def test_curves_cross_the_published_share_where_the_row_says(run, rows):
    row = rows["certified"]
    crossing = row["crossing"]
    assert crossing["euclidean"] < crossing["natural"] < crossing["certified"]
    for name in ("certified", "natural"):
        at = row[f"at_{name}"]
        assert at[name] == pytest.approx(paper.PUBLISHED, abs=0.002)
        assert at["euclidean"] <= at["natural"] <= at["certified"]
    # By brute force at the natural crossing.
    nat, _ = slopes(run)
    inverse, phi, target, r = natural(run)
    score = target @ inverse @ phi.T * r
    gap = np.abs(score[:, :, None] - score[:, None])
    apart = gap > crossing["natural"] * (nat[:, :, None] + nat[:, None])
    first, second = np.triu_indices(len(phi), 1)
    share = apart[:, first, second].mean()
    assert row["at_natural"]["natural"] == pytest.approx(share, abs=1e-4)


def test_stability_counts_the_pairs_of_each_example(run, rows):
    found = rows["stability"]["spearman"]
    # The bound of a score is proportional to this, and so is its spread.
    assert found["weighted"]["score_spread"] > 0.8
    radius = rows["stability"]["first_order_radius"]
    counted = paper._separated(run.natural, radius, [0, 1])
    scores, bounds = run.natural.scores[:2], radius * run.natural.slopes[:2]
    gap = np.abs(scores[:, :, None] - scores[:, None])
    apart = gap > bounds[:, :, None] + bounds[:, None]
    np.testing.assert_array_equal(counted, apart.sum(axis=2).mean(axis=0))
    assert all(-1 <= value <= 1 for part in found.values() for value in part.values())


def test_noise_has_the_plain_loss_beside_self_influence(rows):
    found = rows["noise"]["detectors"]
    assert rows["noise"]["flipped"] == 15
    assert found["loss"]["auroc"] > 0.7
    assert 0 <= found["self-influence"]["recall_at_20"] <= 1


def test_a_share_that_is_never_passed_has_no_radius():
    assert np.isnan(paper._crossing(lambda radii: np.ones(len(radii)), [1e-3, 1.0]))
    line = paper._crossing(lambda radii: 1 - np.asarray(radii), paper.WIDE)
    assert line == pytest.approx(1 - paper.PUBLISHED, rel=1e-3)


def test_the_page_says_every_number_beside_the_published_one(rows):
    text = paper_page.page([*rows.values()])
    assert "| | paper | made up, linear |" in text
    for published in ("68.7 % (eps not given)", "0.970, 94.1 %", "76x?"):
        assert f"| {published} |" in text
    loss = rows["noise"]["detectors"]["loss"]
    assert f"20 %, loss | - | {loss['auroc']:.3f}, " in text
    assert "Not run here: the paper's own model" in text
    assert b"<svg" in paper_page.figure([*rows.values()])
    # A figure that was not made leaves no empty section.
    assert "## Wrong labels" not in paper_page.page([rows["certified"]])
    big = {**rows["certified"], "model": "ResNet-18"}
    assert "Not run here" not in paper_page.page([*rows.values(), big])


def test_rows_of_another_figure_or_model_are_kept(rows, tmp_path, monkeypatch):
    monkeypatch.setattr(paper, "RESULTS", tmp_path)
    paper._store([rows["noise"], rows["certified"]])
    paper._store([{**rows["noise"], "seed": 5}, {**rows["noise"], "model": "other"}])
    kept = (tmp_path / "paper.jsonl").read_text().splitlines()
    found = [
        (row["figure"], row["model"], row.get("seed")) for row in map(json.loads, kept)
    ]
    assert found == [
        ("noise", "linear", 5),
        ("certified", "linear", None),
        ("noise", "other", paper.NOISE_SEED),
    ]


def test_an_unknown_figure_is_refused(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["benchmark", "--quick", "--figure", "curve"])
    with pytest.raises(SystemExit, match="certified, amplification, noise, stability"):
        paper.main()


def test_the_large_network_has_the_size_of_the_usual_resnet18():
    model = resnet18.ResNet18()
    image = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
    key = jax.ShapeDtypeStruct((), jax.random.key(0).dtype)
    shapes = jax.eval_shape(model.init, key, image)
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes)) == 11_173_962


def test_augmented_images_are_shifted_or_mirrored_copies():
    x = np.arange(2 * 8 * 8, dtype=np.float32).reshape(2, 8, 8, 1)
    images = resnet18.Augmented(x, seed=1)
    drawn = [images[np.array([1, 1, 0])] for _ in range(20)]
    assert all(part.shape == (3, 8, 8, 1) for part in drawn)
    assert all((part[:2] >= 64).all() and (part[2] < 64).all() for part in drawn)
    first = np.stack(drawn)[:, 0, :, :, 0]
    steps = np.diff(first[:, 4], axis=1)
    assert (steps[:, 3] == 1).any()
    assert (steps[:, 3] == -1).any()
    assert len({part.tobytes() for part in first}) > 10


@pytest.mark.slow
@pytest.mark.parametrize("model", ["ResNet-8", "ResNet-18"])
def test_both_networks_make_all_figures(model, monkeypatch, capsys, tmp_path):
    words = ["benchmark", "--quick", "--keep"]
    if model == "ResNet-18":
        words.append("--resnet18")
    monkeypatch.setattr(sys, "argv", words)
    monkeypatch.setattr(paper, "RESULTS", tmp_path)
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        paper.main()
    printed = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["figure"] for row in printed] == list(paper.FIGURES)
    assert {row["model"] for row in printed} == {model}
    # A few steps at width 4 teach ResNet-18 nothing: that it runs is what is tested.
    assert printed[0]["accuracy"] > (0.2 if model != "ResNet-18" else 0.0)
    assert printed[0]["at_natural"]["certified"] > paper.PUBLISHED
    assert "made up" in (tmp_path / "paper.md").read_text()
    assert (tmp_path / "paper.svg").read_bytes().startswith(b"<?xml")
