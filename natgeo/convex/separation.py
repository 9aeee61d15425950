"""Why a convex risk has no optimum, or more than one: words for an error."""

from __future__ import annotations

import numpy as np
from scipy import optimize, sparse

from natgeo.convex.losses import Multinomial, Squared
from natgeo.convex.risk import Risk

# Entries of the linear program that settles whether classes are separable.
_LARGEST_PROGRAM = 10_000_000
# Seconds for the linear program.
_PATIENCE_S = 20.0
# Change of a predictor, in logits, above which Newton's method has not arrived.
_STILL = 1e-3


def explain(risk: Risk, theta: np.ndarray) -> str:
    """What is wrong with a risk whose optimum was not found, and what to do."""
    rank = _missing_rank(risk)
    if rank is not None:
        return rank
    if not isinstance(risk.loss, Squared):
        missing = _missing_classes(risk)
        if missing:
            return (
                f"No training example with a positive weight has class code "
                f"{missing[0]}: without a ridge on the intercept its coefficients run "
                f"off to infinity. Drop the class, or fit without it."
            )
        if _separates(risk, theta) or separable(risk):
            return (
                "The classes are separable: a linear rule tells them apart without an "
                "error, so without a ridge the risk has no finite optimum. Set a "
                "positive ridge."
            )
        if np.sum(risk.penalty == 0) > 1:  # more than an intercept
            return (
                "The optimum was not reached: without a ridge on every column the "
                "coefficients run off, because the classes are separable or nearly "
                "so. Set a positive ridge."
            )
    largest = float(np.max(np.abs(theta)))
    return (
        f"The optimum was not reached to rounding (largest coefficient "
        f"{largest:.3g}): the Hessian is nearly singular. Use a larger ridge, drop "
        f"nearly collinear columns, or standardise."
    )


def runs_off(risk: Risk, shift: float) -> bool:
    """True if Newton's method stopped on its way to infinity and not at an optimum.

    Near an optimum the last step moves no predictor to speak of. Where classes are
    separable the loss falls like exp(-u), and every step moves a predictor by about
    one, however small the gradient.

    Args:
        risk: that was minimised.
        shift: largest change of a predictor by the last step.
    """
    free = not isinstance(risk.loss, Squared) and bool(np.any(risk.penalty == 0))
    return free and shift > _STILL


def separable(risk: Risk) -> bool:
    """True if a direction without ridge improves some loss and worsens none.

    That is when no finite optimum exists (Albert and Anderson 1984). Settled by a
    linear program over the columns without a ridge: maximise the sum of the margins,
    each of which may grow between zero and one.
    """
    if _missing_classes(risk):
        return True
    margins = _margins(risk)
    if margins is None:
        return False
    done = optimize.linprog(
        -np.asarray(margins.sum(axis=0)).ravel(),
        A_ub=sparse.vstack([-margins, margins]),
        b_ub=np.repeat([0.0, 1.0], margins.shape[0]),
        bounds=(None, None),
        method="highs",
        options={"time_limit": _PATIENCE_S},
    )
    return bool(done.status == 0 and -done.fun > 0.5)


def _separates(risk: Risk, theta: np.ndarray) -> bool:
    """True if these coefficients give every label more than half the probability.

    A rule without an error: multiplied by any factor above one it has smaller losses.
    """
    if np.any(risk.penalty):
        return False
    losses = risk.loss.value(risk.design @ theta, risk.labels)
    return bool(np.all(losses[risk.weights > 0] < np.log(2)))


def _margins(risk: Risk) -> sparse.csr_array | None:
    """How a direction in the free columns changes every margin, [margins, free q]."""
    keep, free = risk.weights > 0, risk.penalty == 0
    x, y = risk.design[np.ix_(keep, free)], risk.labels[keep]
    if not free.any() or (free.sum() == 1 and np.ptp(x) == 0):
        return None  # an intercept alone separates nothing while no class is missing
    if not isinstance(risk.loss, Multinomial):
        return sparse.csr_array((2.0 * y - 1.0)[:, None] * x)
    classes, basis = risk.loss.classes, risk.loss.basis
    if x.size * classes * (classes - 1) > _LARGEST_PROGRAM:
        return None
    gaps = basis[y][:, None, :] - basis[None]
    rows = (x[:, None, :, None] * gaps[:, :, None, :]).reshape(
        -1, x.shape[1] * len(gaps[0, 0])
    )
    other = np.arange(classes)[None] != y[:, None]
    return sparse.csr_array(rows[other.ravel()])


def _missing_classes(risk: Risk) -> list[int]:
    classes = getattr(risk.loss, "classes", 2)
    seen = np.unique(risk.labels[risk.weights > 0])
    return sorted(set(range(classes)) - {int(code) for code in seen})


def _missing_rank(risk: Risk) -> str | None:
    """The sentence for columns without a ridge that are linearly dependent."""
    free = np.flatnonzero(risk.penalty == 0)
    x = np.sqrt(risk.weights)[:, None] * risk.design[:, free]
    norms = np.linalg.norm(x, axis=0)
    zero = np.flatnonzero(norms == 0)
    if len(zero):
        return (
            f"Column {free[zero[0]]} of the design is zero on every example and has no "
            f"ridge: its coefficient is undetermined. Drop it, or set a ridge."
        )
    if len(x) < len(free):
        return (
            f"{len(x)} examples cannot determine {len(free)} columns without a ridge. "
            f"Set a positive ridge."
        )
    _, values, directions = np.linalg.svd(x / norms, full_matrices=False)
    if len(values) == 0 or values[-1] > 1e-7 * values[0]:
        return None
    involved = free[np.abs(directions[-1]) > 0.05]
    named = ", ".join(map(str, involved[:8]))
    return (
        f"Columns {named} of the design are collinear (the last column is the "
        f"intercept, if there is one), and without a ridge their coefficients are "
        f"undetermined. Drop one of them, or set a positive ridge."
    )
