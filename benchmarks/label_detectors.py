"""Every detector of wrong labels, on what one network left behind.

A name is `situation: detector`. The situations: `one`, the last checkpoint; `epoch`,
another one; `several`, the checkpoints of one run; `held out`, networks that were not
trained on the example; `inputs`, no network.
"Scan default" is what `scan_labels` does there with a model: the network and a readout
of the inputs; the others have readouts of its representation, or both.
"""

from __future__ import annotations

import importlib.util

import numpy as np
import scipy.special

from benchmarks import trajectories as runs
from benchmarks.trajectories import Trajectory
from natgeo.evaluate import detection
from natgeo.labels import detectors, left_out

CLEANLAB = (
    ("self_confidence", False),
    ("normalized_margin", False),
    ("self_confidence", True),
)
RIDGES = (0.01, 0.1, 1.0)  # shares of the mean eigenvalue; elsewhere it is 0.001


def judged(
    found: dict[str, np.ndarray], wrong: np.ndarray
) -> dict[str, tuple[float, float]]:
    """AUROC and recall in the top 20 % of each."""
    return {
        name: (
            round(detection.auroc(values, wrong), 5),
            round(detection.recall_at(values, wrong, 0.2), 5),
        )
        for name, values in found.items()
    }


def in_sample(run: Trajectory, y: np.ndarray) -> dict[str, np.ndarray]:
    """What a network that was trained on all examples says, without their inputs."""
    layers = [
        runs.last_layer(z, hidden, y)
        for z, hidden in zip(run.logits, run.hidden, strict=True)
    ]
    gradients = {"last layer": layers[-1]}
    if run.features.size:
        gradients["all layers"] = np.float64(run.features)
    last, losses = run.logits[-1], detectors.loss(run.logits[-1], y)
    found = {f"one: {k}": v for k, v in _of_logits(last, y).items()}
    for name, rows in gradients.items():
        found |= {
            f"one: gradient norm, {name}": detectors.gradient_norm(rows),
            f"one: self-influence, {name}": left_out.leverage(rows),
            f"one: held-out loss, {name}": detectors.one_checkpoint(losses, rows),
        }
    for name, rows in {"last layer": run.hidden[-1], "gradients": run.free}.items():
        if rows.size:
            without = left_out.leave_one_out(rows, y)
            found[f"one: readout of {name}"] = detectors.loss(without, y)
    levers = [left_out.leverage(rows) for rows in layers]
    for epoch, logits, lever in zip(run.epochs, run.logits, levers, strict=True):
        found[f"epoch {epoch:g}: loss"] = detectors.loss(logits, y)
        found[f"epoch {epoch:g}: self-influence, last layer"] = lever
    found |= {f"one: {k}": v for k, v in _variants(gradients, losses, y).items()}
    found["several: self-influence, last layer"] = detectors.ranks_over_checkpoints(
        levers
    )
    found |= {f"several: {k}": v for k, v in _of_several(run.logits, y).items()}
    return found


def _variants(
    gradients: dict[str, np.ndarray], losses: np.ndarray, y: np.ndarray
) -> dict[str, np.ndarray]:
    """Other ridges, margins for losses, leverage as a factor, class by class."""
    name, rows = list(gradients.items())[-1]
    scale = np.square(rows).sum() / rows.size  # mean eigenvalue of the covariance
    found = {
        f"self-influence, {name}, ridge {share:g}": left_out.leverage(
            rows, share * scale
        )
        for share in RIDGES
    }
    margins = left_out.leverage(left_out.margin_features(rows, losses))
    return found | {
        f"self-influence of margins, {name}": margins,
        f"loss times h / (1 - h) of margins, {name}": losses * margins / (1 - margins),
        "loss within class": detectors.within_class(losses, y),
    }


def out_of_sample(
    logits: np.ndarray, run: Trajectory, inputs: np.ndarray, y: np.ndarray
) -> dict[str, np.ndarray]:
    """What networks say that were not trained on the example.

    Args:
        logits: theirs, [E, N, C].
        run: the network that was trained on all examples.
        inputs: log-probabilities that a scan has from the inputs, [N, C].
        y: given labels, [N].
    """
    readout = run.free if run.free.size else run.hidden[-1]
    last, hidden = logits[-1], left_out.leave_one_out(readout, y)
    found = {f"held out: {k}": v for k, v in _of_logits(last, y).items()}
    for name, opinions in _opinions(hidden, inputs).items():
        both = detectors.weighed(last, y, opinions)
        found[f"held out: {name}"] = detectors.loss(both, y)
    return found | {
        "held out: noise posterior": detectors.noise_posterior(last, y),
        "held out: EL2N within class": detectors.within_class(
            detectors.el2n(last, y), y
        ),
        "held out: mean of checkpoints": detectors.several_checkpoints(logits, y),
    }


def with_inputs(
    run: Trajectory, inputs: np.ndarray, best: np.ndarray, y: np.ndarray
) -> dict[str, np.ndarray]:
    """A second opinion that needs no network, alone or beside the representation.

    Args:
        run: the network that was trained on all examples.
        inputs: log-probabilities that a scan has from the inputs, [N, C].
        best: the same, fitted on the right labels: what better handling of the wrong
            ones could win at most.
        y: given labels, [N].
    """
    readout = run.free if run.free.size else run.hidden[-1]
    gradients = runs.last_layer(run.logits[-1], run.hidden[-1], y)
    if run.features.size:
        gradients = np.float64(run.features)
    networks = {
        "one": left_out.held_out(run.logits[-1], y, gradients),
        "several": detectors.average(run.logits),
    }
    hidden = left_out.leave_one_out(readout, y)
    found = {
        "inputs: readout": detectors.loss(inputs, y),
        "inputs: limit": detectors.loss(best, y),
    }
    for situation, logits in networks.items():
        for name, opinions in _opinions(hidden, inputs).items():
            both = detectors.weighed(logits, y, opinions)
            found[f"{situation}: {name}"] = detectors.loss(both, y)
    return found


def limit(
    logits: np.ndarray, best: np.ndarray, y: np.ndarray, right: np.ndarray
) -> dict[str, np.ndarray]:
    """The scan, if network and inputs learned from the right labels of the others.

    Args:
        logits: of networks trained on the right labels, without the example, [N, C].
        best: log-probabilities of the inputs by the right labels, [N, C].
        y: given labels, [N].
        right: right labels, [N].
    """
    both = detectors.weighed(logits, right, [best])
    return {"held out: limit": detectors.loss(both, y)}


def _opinions(hidden: np.ndarray, inputs: np.ndarray) -> dict[str, list[np.ndarray]]:
    return {
        "with representation": [hidden],
        "scan default": [inputs],
        "with both": [hidden, inputs],
    }


def _of_logits(logits: np.ndarray, y: np.ndarray) -> dict[str, np.ndarray]:
    found = {
        "loss": detectors.loss(logits, y),
        "margin": detectors.margin(logits, y),
        "normalized margin": detectors.normalized_margin(logits, y),
        "EL2N": detectors.el2n(logits, y),
    }
    return found | _cleanlab(logits, y)


def _of_several(logits: np.ndarray, y: np.ndarray) -> dict[str, np.ndarray]:
    return {
        "mean loss": np.mean([detectors.loss(each, y) for each in logits], axis=0),
        "mean margin": np.mean([detectors.margin(each, y) for each in logits], axis=0),
        "mean EL2N": np.mean([detectors.el2n(each, y) for each in logits], axis=0),
        "loss of mean p": detectors.several_checkpoints(logits, y),
    } | _cleanlab(detectors.average(logits), y)


def _cleanlab(logits: np.ndarray, y: np.ndarray) -> dict[str, np.ndarray]:
    """Its scores on the same predictions; nothing if it is not installed."""
    if importlib.util.find_spec("cleanlab") is None:
        return {}
    from cleanlab.rank import get_label_quality_scores

    p = scipy.special.softmax(np.float64(logits), axis=1)
    return {
        "cleanlab "
        + method.replace("_", " ")
        + (", adjusted" if adjusted else ""): -get_label_quality_scores(
            y, p, method=method, adjust_pred_probs=adjusted
        )
        for method, adjusted in CLEANLAB
    }
