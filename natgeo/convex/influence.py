"""Influence of training examples on a convex model, in closed form.

Signs and units, everywhere: an influence is the derivative of an output in the weight
of a training example, at the retrained optimum,

    I(i, t) = d f_t / d w_i = - grad f_t^T H^-1 grad l_i

(certificates.md, section 8). Adding d to the weight w_i (weights sum to one, so a row
of equal weights has 1/N) changes the output by d I(i, t) to first order: a positive
influence on a *loss* harms, one on a margin or a probability of the right class helps.
Removing row i changes the output by -w_i I(i, t) to first order; `leave_out` has the
exact or nearly exact change. Units are those of the output, per unit of weight.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from scipy import linalg

from natgeo.convex import solver
from natgeo.convex.functionals import Functional
from natgeo.convex.model import ConvexModel
from natgeo.convex.outputs import Targets, targets

# Training examples whose gradients are held at once.
_BLOCK_ROWS = 2048


def influence(
    model: ConvexModel, x: Any, y: Any = None, *, output: str = "loss"
) -> np.ndarray:
    """Influence of every training example on every target, [M, N].

    Args:
        model: a fitted model.
        x: [M, d] table rows; or `Targets`, and then nothing else is read.
        y: their labels, [M].
        output: "loss", "margin" or "prediction", see `targets`.

    Raises:
        ArgumentError, DataError: as `targets`.

    Examples:
        The mean of numbers, when one of them gets more weight:

        >>> from natgeo.convex.fit import fit
        >>> ones = np.ones((4, 1))
        >>> model = fit(ones, np.array([1.0, 2.0, 3.0, 6.5]), loss="squared",
        ...             ridge=0.0, intercept=False, standardize=False)
        >>> influence(model, ones[:1], output="prediction")[0].round(6).tolist()
        [-2.125, -1.125, -0.125, 3.375]
    """
    explained = x if isinstance(x, Targets) else targets(model, x, y, output=output)
    return -against_training(model, model.solve(explained.gradients()))


def functional_influence(model: ConvexModel, functional: Functional) -> np.ndarray:
    """Influence of every training example on a functional of the parameters, [N]."""
    solved = model.solve(functional.gradient.reshape(1, -1))
    return -against_training(model, solved)[0]


def self_influence(model: ConvexModel) -> np.ndarray:
    """Self-influence grad l_i^T H^-1 grad l_i of every training example, [N].

    That is -I(i, i) on the loss: how fast the loss of a row falls as its own weight
    grows. Not negative.
    """
    found = []
    for block in gradient_blocks(model):
        if model.parameters <= solver.DENSE:
            half = linalg.solve_triangular(model.factor, block.T, lower=True)
            found.append(np.einsum("pn,pn->n", half, half))
        else:
            found.append(np.einsum("np,np->n", block, model.solve(block)))
    return np.concatenate(found)


def against_training(model: ConvexModel, vectors: np.ndarray) -> np.ndarray:
    """Products of vectors [M, P] with the gradients of every training loss, [M, N]."""
    out = np.empty((len(vectors), len(model.design)))
    start = 0
    for block in gradient_blocks(model):
        np.matmul(vectors, block.T, out=out[:, start : start + len(block)])
        start += len(block)
    return out


def gradient_blocks(model: ConvexModel) -> Iterator[np.ndarray]:
    """Yields the gradients of the training losses in order, [B, P] at a time."""
    for start in range(0, len(model.design), _BLOCK_ROWS):
        part = slice(start, start + _BLOCK_ROWS)
        yield model.gradients(model.design[part], model.labels[part])
