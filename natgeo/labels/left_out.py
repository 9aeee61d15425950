"""What would be predicted of an example by a model that was not trained on it.

Three ways: one step away from the checkpoint, in closed form (`held_out`); a readout of
a representation, leave-one-out in closed form (`leave_one_out`); training several times
on parts of the data (`cross_fit`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import scipy.linalg
import scipy.optimize
import scipy.special

from natgeo import checks
from natgeo.errors import ArgumentError, DataError
from natgeo.geometry import covariance
from natgeo.geometry.blocks import BLOCK_ROWS, regular_blocks
from natgeo.store.memory import as_store
from natgeo.types import Store

# Damping of the held-out step. Residuals below are rounding of float32.
DAMPING, LEAST_RESIDUAL = 0.3, 1e-6
# Ridge of the readout, and the logarithms between which its temperature is sought.
READOUT, SCALES = 0.01, (-4.0, 6.0)
# Ridge from which features in float32 are also multiplied in float32, twice as fast:
# products of standardised columns are off by some 1e-6, D of them by less than that.
SINGLE = 1e-3


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
    factor = _factor(gram, f"the leverage of {rows.shape[1]} features needs ridge > 0")
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


def held_out_shift(losses: Any, features: Any, damping: float = DAMPING) -> np.ndarray:
    """How far the margin log(p / (1 - p)) falls when the example is left out, [N].

    One Newton step of the model linearised in its parameters (approximate leave-one-
    out, arXiv 1801.10243). With margin gradients g = -phi / r, residuals r = 1 - p,
    weights w = p r and a_i = g_i^T (sum_j w_j g_j g_j^T + c I)^-1 g_i, it is

        r_i a_i / (1 - w_i a_i)

    Unlike self-influence it does not grow with r^2: a label that is wrong and memorised
    keeps a large a and w, where r has gone to zero. Passes twice over the features.

    Args:
        losses: -log p at the checkpoint, [N].
        features: loss features phi at the same checkpoint: a store, or [N, K].
        damping: c, as a share of the mean eigenvalue of the sum.
    """
    store = as_store("features", features)
    values = _column("losses", losses, store.shape[0])
    damping = checks.nonnegative("damping", damping)
    residual = np.maximum(-np.expm1(-values), LEAST_RESIDUAL)
    weight = np.exp(-values) / residual
    total = np.zeros((store.shape[1], store.shape[1]))
    for rows, part in _blocks(store, weight):
        total += (rows * part[:, None]).T @ rows
    total[np.diag_indices(len(total))] += damping * np.trace(total) / len(total)
    why = f"are all features zero, or is damping={damping:g} too small?"
    whitener = np.linalg.inv(_factor(total, why))
    form = np.concatenate(
        [np.square(rows @ whitener.T).sum(axis=1) for rows, _ in _blocks(store, weight)]
    )
    left = np.maximum(1 - weight * form, np.finfo(np.float64).eps)
    return np.asarray(form / residual / left)


def held_out_loss(losses: Any, features: Any, damping: float = DAMPING) -> np.ndarray:
    """-log p after `held_out_shift`, [N]; needs no logits.

    Args:
        losses: -log p at the checkpoint, [N].
        features: loss features at the same checkpoint: a store, or [N, K].
        damping: as in `held_out_shift`.
    """
    shift = held_out_shift(losses, features, damping)
    values = np.maximum(np.asarray(losses, np.float64), 0)
    # p' = p / (p + (1 - p) exp(shift)), and its logarithm without overflow.
    residual = -np.expm1(-values)
    with np.errstate(divide="ignore"):
        odds = np.log(residual) + shift
    return np.logaddexp(-values, odds) + values


def held_out(
    logits: Any, labels: Any, features: Any, damping: float = DAMPING
) -> np.ndarray:
    """Log-probabilities after `held_out_shift` of the given label, [N, C].

    Args:
        logits: at the checkpoint, [N, C].
        labels: given, [N].
        features: loss features at the same checkpoint: a store, or [N, K].
        damping: as in `held_out_shift`.
    """
    logp, labels = log_probabilities(logits, labels)
    places = np.arange(len(labels))
    shift = held_out_shift(-logp[places, labels], features, damping)
    logp[places, labels] -= shift
    return np.asarray(scipy.special.log_softmax(logp, axis=1))


def leave_one_out(
    features: Any, labels: Any, ridge: float = READOUT, classes: int | None = None
) -> np.ndarray:
    """Log-probabilities of each example by a readout of all others, [N, C].

    Ridge regression of the one-hot labels on features that do not depend on the label,
    such as the inputs of the last layer, or gradients of a fixed mixture of the logits.
    Leaving example i out divides its residual by 1 - h_i in closed form (Sherman and
    Morrison). The network may have memorised the label; its representation mostly has
    not. `calibrated` makes the predictions probabilities.

    Args:
        features: [N, D], without the labels in them.
        labels: given, [N].
        ridge: as a share of the mean square of the standardised features, > 0.
        classes: C; default the largest label and one.
    """
    store = as_store("features", features)
    labels = whole_labels(labels, store.shape[0])
    if not checks.nonnegative("ridge", ridge):
        raise ArgumentError("ridge=0 may fit every label exactly: use ridge > 0.")
    count, width = store.shape
    onehot = _onehot(labels, classes)
    mean, inverse = _standard(store)
    kind = np.float64 if ridge < SINGLE else np.result_type(store.dtype, np.float32)

    # Rounding the mean of a column that hardly varies would shift all of it.
    far = (np.abs(mean) * inverse > 1e3).any()
    shift, scale = mean if far else mean.astype(store.dtype), inverse.astype(kind)

    def standardised() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for rows, part in _blocks(store, onehot, store.dtype):
            yield (rows - shift).astype(kind, copy=False) * scale, part

    gram, right = np.zeros((width, width)), np.zeros((width, onehot.shape[1]))
    gram[np.diag_indices(width)] = count * ridge
    for rows, part in standardised():
        gram += rows.T @ rows
        right += rows.T @ part.astype(kind)
    factor = _factor(gram, f"ridge={ridge:g} is too small for {store!r}")
    whitener = covariance.inverse(factor)
    weights = (whitener.T @ (whitener @ right)).astype(kind)
    whitener = np.asfortranarray(whitener, kind)
    multiply = scipy.linalg.get_blas_funcs("trmm", (whitener,))
    # The constant one is orthogonal to the other columns: [x, 1] falls into two.
    share, own = onehot.mean(axis=0) / (1 + ridge), 1 / (count * (1 + ridge))
    parts = []
    for rows, part in standardised():
        said = rows @ weights + share
        size = 1 + np.einsum("nd,nd->n", rows, rows, dtype=np.float64)
        white = multiply(1, whitener, rows.T, lower=1, overwrite_b=1)
        h = own + np.einsum("dn,dn->n", white, white)
        # What the example alone allows, for rounding may pass it.
        h = np.minimum(h, size / (size + count * ridge))[:, None]
        parts.append(part - (part - said) / (1 - h))
    return calibrated(np.concatenate(parts), labels)


def _standard(store: Store) -> tuple[np.ndarray, np.ndarray]:
    """Mean and one over the deviation of each column, [D]; 0 where it is constant."""
    count, square = store.shape[0], np.zeros(store.shape[1])
    blocks = store.blocks(BLOCK_ROWS)
    mean = sum(rows.sum(axis=0, dtype=np.float64) for rows in blocks) / count
    for rows in store.blocks(BLOCK_ROWS):
        centred = rows - mean
        square += np.einsum("nd,nd->d", centred, centred)
    spread = np.sqrt(square / count)
    return mean, np.where(spread > 0, 1 / np.where(spread > 0, spread, 1), 0)


def calibrated(logits: Any, labels: Any) -> np.ndarray:
    """Log-probabilities at the temperature that fits the given labels best, [N, C].

    Args:
        logits: of predictions that did not see the example's label, [N, C].
        labels: given, [N].
    """
    scores, labels = log_probabilities(logits, labels)
    places = np.arange(len(scores))

    def cost(log_scale: float) -> float:
        logp = scipy.special.log_softmax(np.exp(log_scale) * scores, axis=1)
        return float(-logp[places, labels].mean())

    found = scipy.optimize.minimize_scalar(cost, bounds=SCALES, method="bounded")
    return np.asarray(scipy.special.log_softmax(np.exp(found.x) * scores, axis=1))


def skill(logits: Any, labels: Any) -> float:
    """1 - log loss of the given labels / that of the class frequencies, at most 1.

    The share of the uncertainty about the given labels that a prediction explains; 0 or
    less where the frequencies do as well, and 0 if all labels are the same.

    Args:
        logits: or log-probabilities, [N, C].
        labels: given, [N].
    """
    logp, labels = log_probabilities(logits, labels)
    share = np.bincount(labels) / len(labels)
    entropy = float(scipy.special.entr(share).sum())
    if entropy == 0:
        return 0.0
    return 1 + float(logp[np.arange(len(labels)), labels].mean()) / entropy


def folds(labels: Any, count: int = 5, seed: int = 0) -> np.ndarray:
    """Fold of each example, [N], from 0; every class is spread evenly.

    Args:
        labels: given, [N].
        count: of folds, at least 2.
        seed: of the draw.
    """
    labels, count = whole_labels(labels), checks.count("count", count, 2)
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


def log_probabilities(logits: Any, labels: Any) -> tuple[np.ndarray, np.ndarray]:
    """Log-probabilities in float64, [N, C], and labels, after checks; for detectors."""
    array = np.asarray(checks.matrix("logits", logits), np.float64)
    labels = whole_labels(labels)
    if len(labels) != len(array) or labels.max() >= array.shape[1]:
        raise DataError(
            f"logits has shape {array.shape}, there are {len(labels)} labels up to "
            f"{labels.max()}: expected one row for each label, one column per class."
        )
    if array.shape[1] < 2:
        raise DataError("logits has one column: expected one for each class.")
    return scipy.special.log_softmax(array, axis=1), labels


def whole_labels(labels: Any, rows: int | None = None) -> np.ndarray:
    """Labels [N] as indices, after checks; N = `rows` if that is given.

    Raises:
        DataError: if they are not whole numbers from 0, one for each example.
    """
    array = np.asarray(labels)
    if (
        array.ndim != 1
        or array.dtype.kind not in "iu"
        or not len(array)
        or (rows is not None and len(array) != rows)
    ):
        raise DataError(
            f"labels has dtype {array.dtype} and shape {array.shape}: expected one "
            f"whole number for each "
            f"{'example' if rows is None else f'of {rows} examples'}."
        )
    if array.min() < 0:
        raise DataError(f"labels holds {array.min()}: classes are numbered from 0.")
    return array.astype(np.intp)


def _features_and_losses(features: Any, losses: Any) -> tuple[np.ndarray, np.ndarray]:
    rows = np.asarray(checks.matrix("features", features), np.float64)
    return rows, _column("losses", losses, len(rows))


def _column(name: str, values: Any, rows: int) -> np.ndarray:
    array = np.asarray(checks.column(name, values, rows), np.float64)
    # log p may round to a little above 0.
    if (array < -1e-4).any():
        raise DataError(f"{name} holds {array.min()}: -log p is not negative.")
    return np.maximum(array, 0)


def _blocks(
    store: Store, column: np.ndarray, kind: Any = np.float64
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Rows in float64 or another precision, and the column at the same rows."""
    start = 0
    for block in regular_blocks(store.blocks(BLOCK_ROWS)):
        rows = np.asarray(block, kind)
        yield rows, column[start : start + len(rows)]
        start += len(rows)


def _onehot(labels: np.ndarray, classes: int | None) -> np.ndarray:
    least = int(labels.max()) + 1
    count = max(least, 2) if classes is None else checks.count("classes", classes, 2)
    if count < least or (classes is None and least > len(labels)):
        raise DataError(
            f"labels holds {least - 1} for {len(labels)} examples of "
            f"{count} classes: classes are numbered from 0, without many gaps."
        )
    return np.eye(count)[labels]


def _factor(gram: np.ndarray, why: str) -> np.ndarray:
    """Lower Cholesky factor.

    Raises:
        DataError: with the reason, if the matrix is not positive definite.
    """
    try:
        return np.asarray(np.linalg.cholesky(gram))
    except np.linalg.LinAlgError:
        raise DataError(f"A covariance is not positive definite: {why}.") from None
