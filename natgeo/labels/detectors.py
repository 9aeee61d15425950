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
  without the example (`cross_fit`, `leave_one_out`) cannot have memorised it: arXiv
  1911.00068.
* Mistakes repeat. If many 4s are called 9, a doubtful 9 that looks like a 4 is more
  suspicious than one that looks like a 1: `noise_posterior` estimates the rates and
  weighs with them.

Logits [N, C] and log-probabilities are interchangeable here. Labels are [N], whole
numbers from 0. `default` is the entry: what to use in which situation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.linalg
import scipy.special
import scipy.stats

from natgeo import checks
from natgeo.errors import ArgumentError, DataError

# Imagined examples per entry of the table of confusions, as a share of its diagonal.
PRIOR = 0.1


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
    logp, labels = _checked(logits, labels)
    return -logp[np.arange(len(labels)), labels]


def margin(logits: Any, labels: Any) -> np.ndarray:
    """Largest other logit minus that of the given label, [N]."""
    logp, labels = _checked(logits, labels)
    own, other = _own_and_other(logp, labels)
    return other.max(axis=1) - own


def normalized_margin(logits: Any, labels: Any) -> np.ndarray:
    """Largest other probability minus that of the given label, [N], in [-1, 1]."""
    logp, labels = _checked(logits, labels)
    own, other = _own_and_other(logp, labels)
    return np.exp(other.max(axis=1)) - np.exp(own)


def el2n(logits: Any, labels: Any) -> np.ndarray:
    """norm(p - onehot), [N]: the gradient of the loss in the logits; 2107.07075."""
    logp, labels = _checked(logits, labels)
    error = np.exp(logp)
    error[np.arange(len(labels)), labels] -= 1
    return np.asarray(np.linalg.norm(error, axis=1))


def gradient_norm(features: Any) -> np.ndarray:
    """norm(phi) of loss features [N, K], [N]."""
    rows = np.asarray(checks.matrix("features", features), np.float64)
    return np.asarray(np.linalg.norm(rows, axis=1))


def leverage(features: Any, ridge: float | None = None) -> np.ndarray:
    """h_i = phi_i^T (sum_j phi_j phi_j^T + N ridge I)^-1 phi_i, [N], in [0, 1).

    A share of the mean eigenvalue of the covariance is the default ridge, as in
    `natural_geometry`. N h is the self-influence.

    Args:
        features: [N, K].
        ridge: in squared feature units.
    """
    rows = np.asarray(checks.matrix("features", features), np.float64)
    gram = rows.T @ rows
    chosen = 1e-3 * np.trace(gram) / gram.size**0.5 / len(rows)
    if ridge is not None:
        chosen = checks.nonnegative("ridge", ridge)
    gram[np.diag_indices(len(gram))] += len(rows) * chosen
    try:
        factor = np.linalg.cholesky(gram)
    except np.linalg.LinAlgError:
        raise DataError(
            f"The {rows.shape[1]} features of {len(rows)} examples are not of full "
            f"rank: leverage needs ridge > 0."
        ) from None
    white = scipy.linalg.solve_triangular(factor, rows.T, lower=True)
    return np.asarray(np.square(white).sum(axis=0))


def margin_features(features: Any, losses: Any) -> np.ndarray:
    """Gradients of the margin log(p / (1 - p)), from those of the loss: -phi / (1 - p).

    Args:
        features: loss features, [N, K].
        losses: -log p of the same examples at the same checkpoint, [N].
    """
    rows, losses = _features_and_losses(features, losses)
    residual = np.maximum(-np.expm1(-losses), np.finfo(np.float32).tiny)
    return -rows / residual[:, None]


def held_out_loss(losses: Any, features: Any, ridge: float | None = None) -> np.ndarray:
    """Loss of the example under a model that was trained without it, [N], to one step.

    The model is linearised in its parameters, and the squared error of the residuals
    r = 1 - p is what it minimises. Leaving example i out divides its residual by
    1 - h_i (Sherman and Morrison), with h the leverage of margin features, and moves
    the margin by r_i h_i / (1 - h_i).

    Args:
        losses: -log p at the checkpoint, [N].
        features: loss features at the same checkpoint, [N, K].
        ridge: of the leverage.
    """
    values = np.asarray(losses, np.float64)
    h = leverage(margin_features(features, losses), ridge)
    return values * h / (1 - h)


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
    values, labels = np.asarray(scores, np.float64), _labels(labels)
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
    logp, labels = _checked(logits, labels)
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


def folds(labels: Any, count: int = 5, seed: int = 0) -> np.ndarray:
    """Fold of each example, [N], from 0; every class is spread evenly.

    Args:
        labels: given, [N].
        count: of folds, at least 2.
        seed: of the draw.
    """
    labels, count = _labels(labels), checks.count("count", count, 2)
    if len(labels) < count:
        raise ArgumentError(f"count={count}: there are {len(labels)} examples.")
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(labels))
    order = order[np.argsort(labels[order], kind="stable")]
    fold = np.empty(len(labels), np.intp)
    fold[order] = np.arange(len(labels)) % count
    return fold


def cross_fit(
    fit: Callable[[np.ndarray, np.ndarray], Any],
    labels: Any,
    count: int = 5,
    seed: int = 0,
) -> np.ndarray:
    """Logits of each example from a model that was not trained on it, [N, C].

    Args:
        fit: `fit(train, held_out)` gets the indices of both, trains on the one, and
            returns logits or log-probabilities of the other, [len(held_out), C].
        labels: given, [N].
        count: of models.
        seed: of the folds.
    """
    fold = folds(labels, count, seed)
    parts: list[np.ndarray] = []
    for number in range(count):
        held_out = np.flatnonzero(fold == number)
        got = checks.matrix("logits", fit(np.flatnonzero(fold != number), held_out))
        if len(got) != len(held_out):
            raise DataError(
                f"fit returned {len(got)} rows for {len(held_out)} examples."
            )
        parts.append(np.asarray(got, np.float64))
    out = np.empty((len(fold), parts[0].shape[1]))
    for number, part in enumerate(parts):
        out[fold == number] = part
    return out


def leave_one_out(features: Any, labels: Any, ridge: float | None = None) -> np.ndarray:
    """Logits of each example by ridge regression on all others, [N, C].

    One-hot labels on features that do not depend on the label (inputs of the last
    layer, say), in closed form: the residual is divided by 1 - h_i. The logits are the
    held-out residuals' Gaussian log-likelihood of each class.

    Args:
        features: [N, D].
        labels: given, [N].
        ridge: of the leverage.
    """
    rows = np.asarray(checks.matrix("features", features), np.float64)
    labels = _labels(labels)
    onehot = np.eye(int(labels.max()) + 1)[labels]
    rows = rows - rows.mean(axis=0)
    scale = rows.std(axis=0)
    rows = np.concatenate(
        [rows / np.where(scale > 0, scale, 1), np.ones((len(rows), 1))], 1
    )
    gram = rows.T @ rows
    shrink = 1e-2 if ridge is None else checks.nonnegative("ridge", ridge)
    gram[np.diag_indices(len(gram))] += shrink * len(rows)
    solved = scipy.linalg.solve(gram, rows.T, assume_a="pos")
    h = np.einsum("nk,kn->n", rows, solved)
    fitted = rows @ (solved @ onehot)
    held_out = onehot - (onehot - fitted) / (1 - h)[:, None]
    spread = np.square(onehot - held_out).mean()
    return np.asarray(held_out / spread)


def suggest(logits: Any, labels: Any) -> Suggestion:
    """The likeliest class and its probability.

    Args:
        logits: averaged over checkpoints or out-of-sample, [N, C].
        labels: given, [N].
    """
    logp, labels = _checked(logits, labels)
    best = logp.argmax(axis=1)
    places = np.arange(len(labels))
    return Suggestion(best, np.exp(logp[places, best]), np.exp(logp[places, labels]))


def average(logits: Any) -> np.ndarray:
    """Log of the mean probabilities over checkpoints, [C, N, classes] -> [N, classes].

    Raises:
        DataError: if it has another number of axes.
    """
    array = np.asarray(logits, np.float64)
    if array.ndim != 3:
        raise DataError(f"logits has shape {array.shape}: expected [C, N, classes].")
    logp = scipy.special.log_softmax(array, axis=2)
    return np.asarray(scipy.special.logsumexp(logp, axis=0) - np.log(len(array)))


def default(
    losses: Sequence[Any] | Any,
    features: Sequence[Any] | None = None,
) -> tuple[str, np.ndarray]:
    """The detector for what is at hand: its name and its scores, [N].

    Args:
        losses: -log p at each checkpoint, [C, N], or out-of-sample, [1, N].
        features: loss features at each checkpoint, or None.
    """
    values = _checkpoints(losses)
    if features is None or len(values) > 1:
        return "mean loss", over_checkpoints(values)
    return "loss and self-influence", combined([values[0], leverage(features[0])])


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


def _checked(logits: Any, labels: Any) -> tuple[np.ndarray, np.ndarray]:
    """Log-probabilities in float64 and labels."""
    array = np.asarray(checks.matrix("logits", logits), np.float64)
    labels = _labels(labels)
    if len(labels) != len(array) or labels.max() >= array.shape[1]:
        raise DataError(
            f"logits has shape {array.shape}, there are {len(labels)} labels up to "
            f"{labels.max()}: expected one row for each label, one column per class."
        )
    if array.shape[1] < 2:
        raise DataError("logits has one column: expected one for each class.")
    return scipy.special.log_softmax(array, axis=1), labels


def _labels(labels: Any) -> np.ndarray:
    array = np.asarray(labels)
    if array.ndim != 1 or array.dtype.kind not in "iu" or not len(array):
        raise DataError(
            f"labels has dtype {array.dtype} and shape {array.shape}: expected one "
            f"whole number for each example."
        )
    if array.min() < 0:
        raise DataError(f"labels holds {array.min()}: classes are numbered from 0.")
    return array.astype(np.intp)


def _features_and_losses(features: Any, losses: Any) -> tuple[np.ndarray, np.ndarray]:
    rows = np.asarray(checks.matrix("features", features), np.float64)
    return rows, np.asarray(
        checks.column("losses", np.asarray(losses, np.float64), len(rows))
    )
