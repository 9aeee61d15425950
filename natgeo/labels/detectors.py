"""Scores of how suspicious a label is, in NumPy; larger is more suspicious.

What a wrong label does to a model, and which score sees it:

* It is learned late. Early in training the model follows the majority, so the loss of
  the given label is high; once the label is memorised the loss says little. Averages
  over checkpoints (`over_checkpoints`) are the area under that curve and forget the
  epoch: arXiv 2001.10528.
* It is learned by force. A memorised example still pulls the parameters where no other
  example pulls them: a large `self_influence` and a large leverage of its gradient,
  which `held_out_loss` turns into the loss of a model that was not trained on it.
* It is not predictable from the others. Probabilities of models that were trained
  without the example (`cross_fit`, arXiv 1911.00068) cannot have memorised it; a
  readout of a representation gives them in closed form (`leave_one_out`).
* Mistakes repeat. If many 4s are called 9, a doubtful 9 that looks like a 4 is more
  suspicious than one that looks like a 1: `noise_posterior` estimates the rates and
  weighs with them. It wins where that is so, and loses elsewhere.

The defaults are the loss of a prediction that has seen the label as little as possible:
if p is the probability of each right class and all mistakes are equally likely, the
order of -log p is that of the probability that the label is wrong. They multiply the
probabilities of the network, held out or averaged over checkpoints, by those of
readouts, each to the power of its skill (`weighed`). Where several models predict
without having seen the label, the given labels themselves say how much each counts
(`stacked`).

Logits [N, C] and log-probabilities are interchangeable here. Labels are [N], whole
numbers from 0. The defaults are `one_checkpoint`, `several_checkpoints` and
`out_of_sample`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.optimize
import scipy.special
import scipy.stats

from natgeo import checks
from natgeo.errors import DataError
from natgeo.labels.left_out import (
    held_out,
    held_out_loss,
    leave_one_out,
    log_probabilities,
    skill,
    whole_labels,
)

# Imagined examples per entry of the table of confusions, as a share of its diagonal.
PRIOR = 0.1
_MOST_WEIGHT = 20.0  # of one opinion; a bound for labels that nothing contradicts


@dataclass(frozen=True, eq=False)
class Suggestion:
    """What the label might be instead.

    Attributes:
        labels: the likeliest class of each example, [N]; the given one where the model
            agrees with it.
        confidence: its probability, [N].
        given: the probability of the given label, [N].
    """

    labels: np.ndarray
    confidence: np.ndarray
    given: np.ndarray


def loss(logits: Any, labels: Any) -> np.ndarray:
    """-log p of the given label, [N], in nats."""
    logp, labels = log_probabilities(logits, labels)
    return -logp[np.arange(len(labels)), labels]


def margin(logits: Any, labels: Any) -> np.ndarray:
    """Largest other logit minus that of the given label, [N]."""
    logp, labels = log_probabilities(logits, labels)
    own, other = _own_and_other(logp, labels)
    return other.max(axis=1) - own


def normalized_margin(logits: Any, labels: Any) -> np.ndarray:
    """Largest other probability minus that of the given label, [N], in [-1, 1]."""
    logp, labels = log_probabilities(logits, labels)
    own, other = _own_and_other(logp, labels)
    return np.exp(other.max(axis=1)) - np.exp(own)


def el2n(logits: Any, labels: Any) -> np.ndarray:
    """norm(p - onehot), [N]: the gradient of the loss in the logits; 2107.07075."""
    logp, labels = log_probabilities(logits, labels)
    error = np.exp(logp)
    error[np.arange(len(labels)), labels] -= 1
    return np.asarray(np.linalg.norm(error, axis=1))


def gradient_norm(features: Any) -> np.ndarray:
    """norm(phi) of loss features [N, K], [N]."""
    rows = np.asarray(checks.matrix("features", features), np.float64)
    return np.asarray(np.linalg.norm(rows, axis=1))


def over_checkpoints(scores: Any) -> np.ndarray:
    """Mean over checkpoints of a score, [C, N] -> [N]."""
    return _checkpoints(scores).mean(axis=0)


def ranks_over_checkpoints(scores: Any) -> np.ndarray:
    """Mean rank over checkpoints, [C, N] -> [N], from 0 to 1.

    For scores without a scale of their own, such as self-influence.
    """
    return np.asarray(rank(_checkpoints(scores), axis=1).mean(axis=0))


def rank(scores: Any, axis: int = 0) -> np.ndarray:
    """Place in ascending order, from 0 to 1, ties shared; along one axis."""
    values = np.asarray(scores, np.float64)
    count = max(values.shape[axis] - 1, 1)
    return np.asarray((scipy.stats.rankdata(values, axis=axis) - 1) / count)


def combined(scores: Iterable[Any]) -> np.ndarray:
    """Mean rank of several detectors, [N], from 0 to 1."""
    return ranks_over_checkpoints(np.stack([np.asarray(one) for one in scores]))


def within_class(scores: Any, labels: Any) -> np.ndarray:
    """Scores minus the mean of those with the same given label, [N].

    Some classes are harder than others; centred, a hard class does not fill the top.
    """
    values, labels = np.asarray(scores, np.float64), whole_labels(labels)
    counts = np.bincount(labels)
    means = np.bincount(labels, values) / np.maximum(counts, 1)
    return values - means[labels]


def noise_posterior(logits: Any, labels: Any, steps: int = 5) -> np.ndarray:
    """Log-odds that the label is wrong, given what is confused with what, [N].

    With q_i(c) = p_i(c) T[c, y_i] / sum_b p_i(b) T[b, y_i] the probability that the
    right class is c, and T[c, y] the share of class c that is labelled y, both are
    found by expectation maximisation; entries of T keep a prior that is even over the
    other classes. Where all mistakes are equally likely this orders like `loss`.

    Args:
        logits: averaged or out-of-sample, [N, C].
        labels: given, [N].
        steps: of the iteration.
    """
    logp, labels = log_probabilities(logits, labels)
    classes = logp.shape[1]
    table = np.log(_even(classes, 0.1))
    for _ in range(steps):
        joint = logp + table[:, labels].T
        right = np.exp(joint - scipy.special.logsumexp(joint, axis=1, keepdims=True))
        counts = np.zeros((classes, classes))
        np.add.at(counts.T, labels, right)
        wrong = 1 - np.trace(counts) / len(labels)
        prior = _even(classes, wrong) * PRIOR * counts.sum(axis=1, keepdims=True)
        counts += prior + np.finfo(float).tiny
        table = np.log(counts / counts.sum(axis=1, keepdims=True))
    own, other = _own_and_other(logp + table[:, labels].T, labels)
    return np.asarray(scipy.special.logsumexp(other, axis=1) - own)


def suggest(logits: Any, labels: Any) -> Suggestion:
    """The likeliest class and its probability.

    Args:
        logits: averaged over checkpoints or out-of-sample, [N, C].
        labels: given, [N].
    """
    logp, labels = log_probabilities(logits, labels)
    best = logp.argmax(axis=1)
    places = np.arange(len(labels))
    return Suggestion(best, np.exp(logp[places, best]), np.exp(logp[places, labels]))


def average(logits: Any) -> np.ndarray:
    """Log of the mean probabilities over checkpoints, [C, N, classes] -> [N, classes].

    Raises:
        DataError: if it has another number of axes.
    """
    array = _predictions(logits)
    logp = scipy.special.log_softmax(array, axis=2)
    return np.asarray(scipy.special.logsumexp(logp, axis=0) - np.log(len(array)))


def one_checkpoint(
    losses: Any,
    features: Any,
    logits: Any = None,
    labels: Any = None,
    readouts: Sequence[Any] = (),
) -> np.ndarray:
    """The default for one checkpoint, [N]: the loss of the held-out prediction.

    With readouts, the loss of what they and the network agree on.

    Args:
        losses: -log p at the checkpoint, [N].
        features: loss features at the same checkpoint: a store, or [N, K].
        logits: at the checkpoint, [N, C]; with readouts.
        labels: given, [N]; with readouts.
        readouts: representations without the labels in them, as for `leave_one_out`.
    """
    if logits is None or labels is None or not readouts:
        return held_out_loss(losses, features)
    network = held_out(logits, labels, features)
    return loss(agreement(network, labels, readouts), labels)


def several_checkpoints(
    logits: Any, labels: Any, readouts: Sequence[Any] = ()
) -> np.ndarray:
    """The default for several checkpoints of one run, [N]: loss of the mean prediction.

    With readouts, of what they and the mean prediction agree on. Checkpoints may also
    be the logits of each example at each epoch before its step, which training computes
    anyway.

    Args:
        logits: [checkpoints, N, C].
        labels: given, [N].
        readouts: as in `one_checkpoint`.
    """
    return out_of_sample(average(logits), labels, readouts)


def out_of_sample(logits: Any, labels: Any, readouts: Sequence[Any] = ()) -> np.ndarray:
    """The default for models that were not trained on the example, [N]: the loss.

    With readouts, of what they and the models agree on.

    Args:
        logits: [N, C], from `cross_fit`, say.
        labels: given, [N].
        readouts: as in `one_checkpoint`.
    """
    return loss(agreement(logits, labels, readouts), labels)


def agreement(logits: Any, labels: Any, readouts: Sequence[Any]) -> np.ndarray:
    """Log-probabilities that a network and readouts agree on, [N, C], for `suggest`.

    Args:
        logits: of the network, best held out or averaged, [N, C].
        labels: given, [N].
        readouts: representations without the labels in them, [N, D] each.
    """
    logp, labels = log_probabilities(logits, labels)
    classes = logp.shape[1]
    opinions = (leave_one_out(each, labels, classes=classes) for each in readouts)
    return weighed(logp, labels, opinions)


def weighed(logits: Any, labels: Any, opinions: Iterable[Any]) -> np.ndarray:
    """The normalised log p + sum_e s_e log q_e, [N, C]; s_e = max(`skill` of q_e, 0).

    A readout that explains nothing of the given labels leaves the network as it is.
    Skill is not taken relative to the network's: one that has memorised has the most,
    and its representation may have memorised too. Then its readout looks skilled, which
    the given labels cannot tell: where a network fits its training labels far better
    than others, readouts of the inputs are the better opinions.

    Args:
        logits: p, of the network, [N, C].
        labels: given, [N].
        opinions: q_e, logits or log-probabilities that did not see the label, [N, C].
    """
    total, labels = log_probabilities(logits, labels)
    for each in opinions:
        said, _ = log_probabilities(each, labels)
        total = total + max(skill(said, labels), 0.0) * said
    return np.asarray(scipy.special.log_softmax(total, axis=1))


def stack_weights(opinions: Sequence[Any], labels: Any) -> np.ndarray:
    """Powers w_e >= 0 at which the opinions predict the given labels best, [E].

    They maximise the mean log-probability of the given labels under the normalised
    prod_e q_e^w_e, a concave function (stacking, Wolpert 1992; Breiman 1996, with
    weights that are not negative). Only for opinions that have not seen the label of
    the example: of others, the one that has memorised most would get all the weight.

    Args:
        opinions: q_e, logits or log-probabilities, [N, C] each, at least one.
        labels: given, [N].
    """
    each = [log_probabilities(one, labels) for one in opinions]
    if not each:
        raise DataError("opinions is empty: expected at least one, [N, C].")
    labels = each[0][1]
    said = np.stack([logp for logp, _ in each])
    own = said[:, np.arange(len(labels)), labels]

    def cost(weights: np.ndarray) -> tuple[float, np.ndarray]:
        total = np.tensordot(weights, said, 1)
        normal = scipy.special.logsumexp(total, axis=1)
        expected = np.einsum("enc,nc->en", said, np.exp(total - normal[:, None]))
        return float((normal - weights @ own).mean()), (expected - own).mean(axis=1)

    found = scipy.optimize.minimize(
        cost,
        np.full(len(said), 1 / len(said)),
        jac=True,
        method="L-BFGS-B",
        bounds=[(0, _MOST_WEIGHT)] * len(said),
    )
    return np.asarray(found.x)


def stacked(opinions: Sequence[Any], labels: Any) -> np.ndarray:
    """What opinions that did not see the label say together, [N, C].

    Args:
        opinions: as for `stack_weights`, whose weights these are.
        labels: given, [N].
    """
    weights = stack_weights(opinions, labels)
    said = [log_probabilities(one, labels)[0] for one in opinions]
    total = np.tensordot(weights, np.stack(said), 1)
    return np.asarray(scipy.special.log_softmax(total, axis=1))


def _even(classes: int, wrong: float) -> np.ndarray:
    """A table where each class is right alike, and mistakes are spread evenly."""
    out = np.full((classes, classes), wrong / max(classes - 1, 1))
    out[np.diag_indices(classes)] = 1 - wrong
    return out


def _own_and_other(
    values: np.ndarray, labels: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The given label's entry, [N], and all entries with it at -inf, [N, C]."""
    places = np.arange(len(labels))
    other = values.copy()
    other[places, labels] = -np.inf
    return values[places, labels], other


def _checkpoints(scores: Any) -> np.ndarray:
    values = np.asarray(scores, np.float64)
    if values.ndim != 2 or not values.size:
        raise DataError(
            f"scores has shape {values.shape}: expected [checkpoints, examples]."
        )
    checks.finite("scores", values)
    return values


def _predictions(logits: Any) -> np.ndarray:
    array = np.asarray(logits, np.float64)
    if array.ndim != 3 or not array.size:
        raise DataError(f"logits has shape {array.shape}: expected [C, N, classes].")
    checks.finite("logits", array.reshape(len(array) * array.shape[1], -1))
    return array
