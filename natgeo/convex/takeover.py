"""Models taken over from fitted scikit-learn estimators, recognised by name.

    Ridge                 sum_i s_i (y_i - u_i)^2 + alpha norm(w)^2      mu = alpha / S
    LogisticRegression    C sum_i s_i l_i + norm(w)^2 / 2                mu = 1 / (C S)

with S the sum of the sample weights s_i (class weights included); the intercept has no
penalty. natgeo does not import scikit-learn.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from natgeo.convex import solver
from natgeo.convex.fit import as_labels, as_table, as_weights
from natgeo.convex.losses import Multinomial
from natgeo.convex.model import ConvexModel, Scaling, at_optimum
from natgeo.convex.risk import Risk
from natgeo.errors import ArgumentError, DataError

SUPPORTED = ("Ridge", "LogisticRegression")
# Early stopping moves the optimum by a few hundredths of its size; other data, or an
# estimator that hardly began, by more than this.
FAR = 0.1


def from_sklearn(
    estimator: Any, x: Any, y: Any, sample_weight: Any = None
) -> ConvexModel:
    """Takes over a fitted `Ridge` or `LogisticRegression`, or a Pipeline with one.

    The coefficients are taken as the start and solved on to machine precision, because
    scikit-learn stops early; `notes` of the result says how far they moved. A
    `StandardScaler` in front becomes the scaling of the model.

    Args:
        estimator: fitted; a Pipeline may have `StandardScaler` in front, no more.
        x: [N, d], the table it was fitted to, before the Pipeline.
        y: [N], the labels it was fitted to.
        sample_weight: [N], the weights it was fitted with.

    Raises:
        ArgumentError: for estimators, penalties and settings that are not supported.
        DataError: if it is not fitted, or not to these data.
    """
    final, scaler = _parts(estimator)
    kind = type(final).__name__
    table, names = as_table(x)
    shares, total = _shares(final, y, sample_weight, len(table))
    loss, labels, classes = as_labels(
        y, len(table), "squared" if kind == "Ridge" else _classifier(final)
    )
    weights, offset = _fitted(final, table.shape[1], classes)
    scaling = _scaling(scaler, names, bool(final.fit_intercept))
    penalty = _penalty(final, table.shape[1], total)
    start = np.atleast_2d(weights).T
    if scaling.intercept:
        start = np.vstack([start, offset])
    if isinstance(loss, Multinomial):
        start = start @ loss.basis
    risk = Risk(loss, scaling.rows(table), labels, shares, penalty)
    found = solver.minimize(risk, start)
    notes = (_compare(risk, start, found),)
    return at_optimum(risk, found, scaling, classes, notes)


def _parts(estimator: Any) -> tuple[Any, Any]:
    """The final estimator and the StandardScaler in front of it, if there is one."""
    steps = [estimator]
    if type(estimator).__name__ == "Pipeline":
        named = [step for _, step in estimator.steps]
        steps = [s for s in named if s is not None and s != "passthrough"]
    *before, final = steps
    kinds = [type(step).__name__ for step in before]
    if kinds not in ([], ["StandardScaler"]):
        raise ArgumentError(
            f"This Pipeline has {', '.join(kinds)} in front: only one StandardScaler "
            f"is understood. Transform the table first and pass the final estimator."
        )
    if type(final).__name__ not in SUPPORTED:
        raise ArgumentError(
            f"{type(final).__name__} cannot be taken over: expected a fitted "
            f"{' or '.join(SUPPORTED)}, or a Pipeline that ends in one."
        )
    if not hasattr(final, "coef_"):
        raise DataError(f"This {type(final).__name__} is not fitted: call fit first.")
    return final, before[0] if before else None


def _classifier(final: Any) -> str:
    """Logistic or multinomial, after refusing what is neither."""
    if final.l1_ratio not in (None, 0, 0.0) or final.penalty not in (
        "l2",
        None,
        "none",
        "deprecated",
    ):
        raise ArgumentError(
            f"penalty={final.penalty!r} with l1_ratio={final.l1_ratio!r} is not "
            f"smooth: influence needs an L2 penalty, or none."
        )
    several = len(final.classes_) > 2
    scheme = getattr(final, "multi_class", "auto")
    if several and (final.solver == "liblinear" or scheme == "ovr"):
        raise ArgumentError(
            "This model is one classifier per class (one-vs-rest): take over each of "
            "them on its own, or fit a multinomial one."
        )
    if not several and scheme == "multinomial":
        raise ArgumentError(
            "A multinomial model of two classes is not taken over: fit with the "
            "default multi_class."
        )
    return "multinomial" if several else "logistic"


def _fitted(
    final: Any, columns: int, classes: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    """Coefficients [q, d] and intercepts [q], after checking that they fit the data."""
    weights = np.atleast_2d(np.asarray(final.coef_, np.float64))
    if type(final).__name__ == "Ridge" and len(weights) != 1:
        raise ArgumentError(
            f"This Ridge predicts {len(weights)} numbers: take over one at a time."
        )
    if type(final).__name__ == "Ridge" and final.positive:
        raise ArgumentError("Ridge(positive=True) is constrained: not taken over.")
    if weights.shape[1] != columns:
        raise DataError(
            f"The estimator was fitted to {weights.shape[1]} columns, x has {columns}."
        )
    if classes is not None and not np.array_equal(classes, final.classes_):
        raise DataError(
            f"The estimator knows the classes {final.classes_!s}, y holds {classes!s}."
        )
    return weights, np.atleast_1d(np.asarray(final.intercept_, np.float64))


def _shares(
    final: Any, y: Any, sample_weight: Any, rows: int
) -> tuple[np.ndarray, float]:
    """Weights that sum to one, and the sum S of those that the estimator used."""
    raw = np.ones(rows) if sample_weight is None else np.asarray(sample_weight)
    as_weights(raw, rows)
    raw = raw.astype(np.float64)
    chosen = getattr(final, "class_weight", None)
    if chosen is not None:
        raw = raw * _class_weights(chosen, np.asarray(y), raw, sample_weight)
    return as_weights(raw, rows), float(np.sum(raw))


def _class_weights(
    chosen: Any, y: np.ndarray, raw: np.ndarray, sample_weight: Any
) -> np.ndarray:
    """What each row's weight is multiplied by, [N]."""
    classes, codes = np.unique(y, return_inverse=True)
    if isinstance(chosen, str):
        counts = np.bincount(codes, raw)
        return (np.sum(raw) / (len(classes) * counts))[codes]
    return np.array([float(chosen.get(c, 1.0)) for c in classes.tolist()])[codes]


def _scaling(scaler: Any, names: tuple[str, ...], intercept: bool) -> Scaling:
    d = len(names)
    center = getattr(scaler, "mean_", None)
    spread = getattr(scaler, "scale_", None)
    return Scaling(
        np.zeros(d) if center is None else np.array(center, np.float64),
        np.ones(d) if spread is None else np.array(spread, np.float64),
        intercept,
        names,
    )


def _penalty(final: Any, columns: int, total: float) -> np.ndarray:
    """Ridge of every column of the design, [p]."""
    if type(final).__name__ == "Ridge":
        alpha = np.asarray(final.alpha, np.float64).ravel()
        if alpha.size != 1:
            raise ArgumentError("Ridge with one alpha per output is not taken over.")
        mu = float(alpha[0]) / total
    else:
        free = final.penalty in (None, "none") or np.isinf(final.C)
        mu = 0.0 if free else 1 / (float(final.C) * total)
    penalty = np.full(columns + bool(final.fit_intercept), mu)
    if final.fit_intercept:
        penalty[-1] = 0.0
        if getattr(final, "solver", "") == "liblinear":
            # liblinear penalises b / intercept_scaling like a coefficient.
            penalty[-1] = mu / float(final.intercept_scaling) ** 2
    return penalty


def _compare(risk: Risk, start: np.ndarray, found: solver.Optimum) -> str:
    """How far the estimator was from the optimum, or an error if that is far."""
    gradient = float(np.linalg.norm(risk.gradient_at(start)))
    moved = _energy(risk, found.theta, found.theta - start)
    size = _energy(risk, found.theta, found.theta)
    share = moved / size if size else 0.0
    if share > FAR:
        raise DataError(
            f"The estimator is no optimum of its own risk on these data: the gradient "
            f"norm is {gradient:.2g}, and the optimum lies {share:.0%} of its own size "
            f"away. Pass the x, y and sample_weight that it was fitted to, or lower "
            f"its tol and fit again."
        )
    return (
        f"Taken over with a gradient of norm {gradient:.1e} and solved on to rounding; "
        f"the coefficients moved by {share:.1e} of their size (in the metric of the "
        f"Hessian)."
    )


def _energy(risk: Risk, theta: np.ndarray, direction: np.ndarray) -> float:
    """Size of a direction in the metric of the Hessian at the optimum."""
    return float(np.sqrt(np.sum(direction * risk.product_at(theta, direction))))
