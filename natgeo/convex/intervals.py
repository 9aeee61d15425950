"""Proven influence intervals: they hold when the model is really retrained.

For every distribution in an order-2 Wasserstein ball around the training data, at the
stated radius and not to first order: `intervals_squared` and `intervals_smooth` have
the theorems with their proofs, rounding included.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from natgeo import checks
from natgeo.convex import intervals_smooth, intervals_squared
from natgeo.convex.intervals_ground import Ground, ground
from natgeo.convex.model import ConvexModel
from natgeo.convex.outputs import Targets
from natgeo.convex.sensitivity import require_distribution
from natgeo.convex.spans import Span
from natgeo.convex.stability import Whitened, stability, whiten
from natgeo.display import given
from natgeo.errors import ArgumentError


@dataclass(frozen=True, eq=False)
class ProvenIntervals:
    """Influences of training examples on one target, and how far they can go.

    Attributes:
        train: the training examples, [B].
        influence: I(i, t) on the data as they are, computed, [B].
        low: proven lower ends over the ball, [B]; minus infinity if vacuous.
        high: proven upper ends, [B].
        half_width: first-order half-widths, [B]: not a bound, for comparison.
        radius: of the ball.
        model: what is retrained.
        output: what of the target is explained.
    """

    train: np.ndarray
    influence: np.ndarray
    low: np.ndarray
    high: np.ndarray
    half_width: np.ndarray
    radius: float
    model: ConvexModel
    output: str

    @property
    def vacuous(self) -> np.ndarray:
        """Where nothing is proven at this radius, [B]."""
        return ~(np.isfinite(self.low) & np.isfinite(self.high))

    @property
    def first_order(self) -> tuple[np.ndarray, np.ndarray]:
        """Ends of the first-order intervals: left by worst-case retraining."""
        return self.influence - self.half_width, self.influence + self.half_width

    @property
    def guarantee(self) -> str:
        """What the intervals say, in words."""
        return guarantee(self.model, self.radius, int(self.vacuous.sum()), self.output)


def proven_interval(
    target: Targets, train: Any, radius: float, *, index: int = 0
) -> ProvenIntervals:
    """Proven ends of I(i, t) over an order-2 ball, with retraining.

    The ball is natural: a move costs sqrt(d^T M^-1 d), M the second moments of what
    moves about their mean, plus the ridge, on the stored data. With squared loss inputs
    and labels move, with the others the inputs. The constant column, the ridge, the
    target and the example i itself are held fixed. Squared loss has tight intervals up
    to radius 1; the others are useful at small radii only, and say so (`vacuous`).

    Args:
        target: targets, from `targets` or `training_targets`, with output "loss", or
            "prediction" with squared loss.
        train: training examples i: one, several, or None for all.
        radius: of the ball, not negative.
        index: which of the targets, t.

    Raises:
        ArgumentError: for an index out of range, a negative radius, another output, or
            a model whose weights do not sum to one.
        UnfitEnvironmentError: if float64 arithmetic is not sound on this machine.

    Examples:
        >>> import numpy as np
        >>> from natgeo import convex
        >>> x = np.linspace(-1, 1, 50)[:, None]
        >>> model = convex.fit(x, x[:, 0] + np.sin(9 * x[:, 0]), loss="squared")
        >>> target = convex.training_targets(model, [3])
        >>> found = convex.proven_interval(target, [7], radius=0.01)
        >>> bool(found.low[0] < found.influence[0] < found.high[0])
        True
    """
    model = target.model
    require_distribution(model)
    eps = checks.nonnegative("radius", radius)
    chosen = as_examples(model, train)
    one = target.take(checks.index("index", index, len(target)))
    require_output(one)
    if model.classes is None:
        spans, widths = _squared(one, chosen, eps)
    else:
        spans, widths = _smooth(one, chosen, eps)
    examples = Targets(model, model.design[chosen], model.labels[chosen], "loss")
    solved = model.solve(one.gradients())[0]
    return ProvenIntervals(
        chosen,
        -(examples.gradients() @ solved),
        spans.low,
        spans.high,
        widths,
        eps,
        model,
        one.output,
    )


def guarantee(model: ConvexModel, radius: float, vacuous: int, output: str) -> str:
    """The claim of proven intervals at a radius, in plain words."""
    moves = "inputs and labels" if model.classes is None else "inputs"
    fixed = "" if model.classes is None else " The labels stay."
    words = (
        f"For every distribution of the training {moves} within order-2 Wasserstein "
        f"distance {given(radius)} of the {len(model.design):,} stored examples, in "
        f"their own fixed natural metric: when the model of {model.loss.name} loss is "
        f"retrained on it, with the same ridge, each influence on the {output} of the "
        f"target lies in its interval.{fixed} Target, training example and intercept "
        f"column are held fixed. Rounding is included. Nothing is said about the "
        f"population that the data came from."
    )
    if vacuous:
        words += f" {vacuous:,} intervals are vacuous: nothing is proven for them here."
    return words


def require_output(one: Targets) -> None:
    """Refuses what no theorem covers.

    Raises:
        ArgumentError: naming what is covered.
    """
    covered = ("loss", "prediction") if one.model.classes is None else ("loss",)
    if one.output not in covered:
        raise ArgumentError(
            f"output={one.output!r} has no proven interval with {one.model.loss.name} "
            f"loss: use {' or '.join(map(repr, covered))}."
        )


def as_examples(model: ConvexModel, train: Any) -> np.ndarray:
    """Indices of training examples, [B]: of all for None."""
    if train is None:
        return np.arange(len(model.design))
    return checks.indices("train", np.atleast_1d(train), len(model.design))


@lru_cache(maxsize=4)
def grounded(model: ConvexModel) -> Ground:
    """The natural coordinates of a model of squared loss; kept."""
    return ground(model)


@lru_cache(maxsize=4)
def whitened(model: ConvexModel) -> Whitened:
    """The constants of a model of another loss; kept."""
    return whiten(model)


def example_of(model: ConvexModel, i: int) -> Targets:
    """One training example, its loss as what is explained."""
    part = slice(i, i + 1)
    return Targets(model, model.design[part], model.labels[part], "loss")


def explained(one: Targets) -> intervals_squared.Explained:
    """One target of squared loss in natural coordinates."""
    points = grounded(one.model).points(one.rows, one.labels)
    return intervals_squared.Explained(points, one.output == "prediction")


def _squared(one: Targets, train: np.ndarray, eps: float) -> tuple[Span, np.ndarray]:
    known = grounded(one.model)
    unknown = np.full(len(train), np.inf)
    if not known.holds:
        return Span(-unknown, unknown), unknown
    target, examples = explained(one), known.train.take(train)
    slope = intervals_squared.first_order(known, target, examples)
    widths = eps * slope * target.unit(known).size
    if not eps < 1:
        return Span(-unknown, unknown), widths
    product = intervals_squared.by_product(known, target, examples, eps)
    slopes = intervals_squared.by_slope(known, target, examples, eps)
    return product.meet(slopes), widths


def _smooth(one: Targets, train: np.ndarray, eps: float) -> tuple[Span, np.ndarray]:
    model = one.model
    known = stability(whitened(model), eps)
    found = []
    for i in train:
        bound = intervals_smooth.bounded(known, one, example_of(model, i))
        found.append((*bound.ends, bound.width))
    low, high, widths = np.array(found).reshape(-1, 3).T
    return Span(low, high), widths
