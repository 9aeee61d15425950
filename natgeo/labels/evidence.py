"""What is known about every label, and the scores that it allows.

Features may be larger than memory: everything here streams them in blocks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from natgeo.geometry.blocks import BLOCK_ROWS, regular_blocks
from natgeo.geometry.natural import NaturalGeometry, self_influence
from natgeo.labels import detectors, left_out
from natgeo.labels.detectors import Suggestion


@dataclass(frozen=True, eq=False)
class Evidence:
    """All that scores are made of; C checkpoints, N examples.

    Attributes:
        geometries: of the loss features of one checkpoint or of several.
        losses: -log p of the given label, [C, N], or None.
        logits: predictions, [C, N, classes], or None.
        labels: [N], or None.
        held_out: whether the predictions are by models not trained on the example.
        readouts: representations without the labels in them, [N, D] each.
        choices: what was chosen, in words.
        features_as: see `LabelScan`.
        opinions: log-probabilities that have not seen the label, [N, classes] each.
        second: those of the inputs, to be weighed with the predictions, or None.
    """

    geometries: tuple[NaturalGeometry, ...]
    losses: np.ndarray | None = None
    logits: np.ndarray | None = None
    labels: np.ndarray | None = None
    held_out: bool = False
    readouts: tuple[Any, ...] = ()
    choices: Mapping[str, str] = field(default_factory=dict)
    features_as: Callable[[np.ndarray, np.ndarray], Any] | None = None
    opinions: tuple[Any, ...] = ()
    second: np.ndarray | None = None

    @cached_property
    def said(self) -> np.ndarray | None:
        """Log-probabilities that have seen the label as little as possible.

        [N, classes]: the opinions, stacked. Without them, of models that were not
        trained on the example, averaged over checkpoints, or one step of training
        without the example away from the only one; weighed with the readouts, or with
        what the inputs say. None without predictions.
        """
        logits, labels = self.logits, self.labels
        if logits is None or labels is None:
            return None
        if self.opinions:
            return detectors.stacked(self.opinions, labels)
        network = detectors.average(logits)
        if len(logits) == 1 and not self.held_out:
            network = left_out.held_out(logits[0], labels, self.geometries[-1].train)
        if self.second is not None:
            return detectors.weighed(network, labels, [self.second])
        return detectors.agreement(network, labels, self.readouts)

    @property
    def suggestion(self) -> Suggestion | None:
        """The likeliest other label of each example."""
        if self.said is None or self.labels is None:
            return None
        return best_other(self.said, self.labels)


def scores(found: Evidence) -> tuple[dict[str, np.ndarray], str]:
    """Every score that the evidence allows, and the name of the default detector."""
    influence = np.stack([self_influence(g) for g in found.geometries])
    name, values = _default(found)
    made = {} if values is None else {name: values}
    made["self-influence"] = (
        influence[0]
        if len(influence) == 1
        else detectors.ranks_over_checkpoints(influence)
    )
    made["gradient norm"] = detectors.over_checkpoints(
        np.stack([_norms(g) for g in found.geometries])
    )
    if found.losses is not None:
        made["loss"] = detectors.over_checkpoints(found.losses)
    if found.logits is not None and found.labels is not None:
        for other, score in (
            ("margin", detectors.normalized_margin),
            ("EL2N", detectors.el2n),
        ):
            each = [score(one, found.labels) for one in found.logits]
            made[other] = detectors.over_checkpoints(np.stack(each))
    return made, name


def _default(found: Evidence) -> tuple[str, np.ndarray | None]:
    """The detector for what is at hand, by name, and its scores if they are no other's.

    The choice is that of `natgeo.labels.detectors`.
    """
    logits, labels, losses = found.logits, found.labels, found.losses
    if losses is None:
        return "self-influence", None
    if found.said is None or logits is None or labels is None:
        if len(losses) > 1:
            return "loss", None
        features = found.geometries[-1].train
        return "loss, held out", detectors.one_checkpoint(losses[0], features)
    name = "loss, mean prediction" if len(logits) > 1 else "loss, held out"
    if found.held_out or found.opinions:
        name = "loss, out of sample"
    # What the defaults of `detectors` are, from one pass over features and readouts.
    if found.readouts or found.second is not None:
        name += " and readout"
    return name, detectors.loss(found.said, labels)


def best_other(logits: Any, labels: np.ndarray) -> Suggestion:
    """The likeliest class that is not the given one, with both probabilities.

    Args:
        logits: averaged or out-of-sample, [N, classes].
        labels: given, [N].
    """
    probabilities = np.exp(-_all_losses(logits))
    places = np.arange(len(labels))
    given = probabilities[places, labels].copy()
    probabilities[places, labels] = -1
    other = probabilities.argmax(axis=1)
    return Suggestion(other, probabilities[places, other], given)


def _all_losses(logits: Any) -> np.ndarray:
    values = np.asarray(logits, np.float64)
    shifted = values - values.max(axis=1, keepdims=True)
    return np.asarray(np.log(np.exp(shifted).sum(axis=1, keepdims=True)) - shifted)


def _norms(geometry: NaturalGeometry) -> np.ndarray:
    """Euclidean norms of the features, [N]."""
    blocks = regular_blocks(geometry.train.blocks(BLOCK_ROWS))
    return np.concatenate(
        [np.linalg.norm(np.asarray(block, np.float64), axis=1) for block in blocks]
    )
