"""Worst-case perturbations of the training data, and real retraining on them.

Gradient ascent of an influence over all training examples at once, through the optimum
by implicit differentiation. At perturbed data the gradient of I in the examples is the
slope field of the sensitivity kernel S there (`sensitivity`, which contains the motion
of the optimum), so the steepest move of given cost is M times that field, M the dual of
the ground metric. Each step goes there, or part of the way if that is no better, and
retrains. The first start is the first-order worst case, the others are random.

What is reached is a fact, not an estimate: the perturbed data and the retrained model
are handed back. That nothing worse was found proves nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import linalg

from natgeo import checks
from natgeo.convex.model import ConvexModel
from natgeo.convex.outputs import Targets
from natgeo.convex.sensitivity import kernel_between, moments, require_distribution
from natgeo.errors import DataError

# Moves stop short of the radius by this share, so that rounding stays inside.
_INSIDE = 1 - 1e-9
_SHARES = (1.0, 0.5, 0.2, 0.05)
_GAIN = 1e-6


@dataclass(frozen=True, eq=False)
class Attack:
    """A perturbed data set inside the ball, and the influence after retraining on it.

    Attributes:
        before: the influence on the data as they are.
        value: the influence after retraining.
        cost: order-2 natural Wasserstein cost of the moves, at most the radius.
        radius: the ball.
        model: the retrained model; its `design` and `labels` are the perturbed data.
    """

    before: float
    value: float
    cost: float
    radius: float
    model: ConvexModel


@dataclass(frozen=True, eq=False)
class Influence:
    """I(i, t), or I(i, t) - I(j, t), of fixed examples on whatever data is trained on.

    Attributes:
        target: one target.
        examples: i, or i and j, as targets with output "loss".
    """

    target: Targets
    examples: Targets

    def of(self, model: ConvexModel) -> float:
        """The influence after training on the data of `model`."""
        solved = model.solve(_on(model, self.target).gradients())
        values = -(_on(model, self.examples).gradients() @ solved[0])
        return float(values[0] - values[1:].sum())

    def slopes(self, model: ConvexModel) -> np.ndarray:
        """Its gradient in every example that moves, per unit of weight, [N, m]."""
        total: np.ndarray | float = 0.0
        one, examples = _on(model, self.target), _on(model, self.examples)
        for place in range(len(examples)):
            kernel = kernel_between(one, examples.take(place))
            field, labels = kernel.slopes()
            if model.scaling.intercept:
                field = field[:, :-1]
            if model.classes is None:
                field = np.hstack([field, labels[:, None]])
            total = total + (field if place == 0 else -field)
        return np.asarray(total)


def attack(
    target: Targets,
    train: int,
    radius: float,
    *,
    rival: int | None = None,
    index: int = 0,
    upward: bool = True,
    steps: int = 20,
    starts: int = 2,
    seed: int = 0,
) -> Attack:
    """The largest influence found by retraining on data inside the ball.

    The ball is that of `proven_interval`: order 2, natural metric; the inputs move, and
    with squared loss the labels too. Example and target are fixed.

    Args:
        target: targets, from `targets` or `training_targets`.
        train: which training example, i.
        radius: of the ball, not negative.
        rival: another example j; then I(i, t) - I(j, t) is attacked.
        index: which of the targets, t.
        upward: False for the smallest influence.
        steps: most ascent steps from each start; each one retrains.
        starts: the first-order direction, then random ones.
        seed: of the random ones.

    Raises:
        ArgumentError: for an index out of range, a negative radius, or a model whose
            weights do not sum to one.
    """
    model = target.model
    require_distribution(model)
    eps = checks.nonnegative("radius", radius)
    chosen = [checks.index("train", train, len(model.design))]
    if rival is not None:
        chosen.append(checks.index("rival", rival, len(model.design)))
    one = target.take(checks.index("index", index, len(target)))
    examples = Targets(model, model.design[chosen], model.labels[chosen], "loss")
    influence = Influence(one, examples)
    sign = 1.0 if upward else -1.0
    metric = moments(model, model.classes is None)
    rng = np.random.default_rng(seed)
    best, before = model, influence.of(model)
    value, moves = before, np.zeros((len(model.design), len(metric)))
    for start in range(checks.count("starts", starts)):
        found = _climb(influence, model, metric, sign, eps, start, steps, rng)
        if found is not None and sign * found[0] > sign * value:
            value, moves, best = found
    return Attack(before, value, cost(model, metric, moves), eps, best)


def cost(model: ConvexModel, metric: np.ndarray, moves: np.ndarray) -> float:
    """Natural order-2 cost of moves [N, m], an upper bound of the W2 distance."""
    raised = linalg.solve(metric, moves.T, assume_a="pos")
    return float(np.sqrt(model.weights @ np.einsum("nm,mn->n", moves, raised)))


def moved(model: ConvexModel, moves: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Design and labels after moves [N, m] of the coordinates that may move."""
    design, labels = model.design.copy(), model.labels
    columns = design.shape[1] - model.scaling.intercept
    design[:, :columns] += moves[:, :columns]
    if model.classes is None:
        labels = labels + moves[:, columns]
    return design, labels


def _climb(
    influence: Influence,
    model: ConvexModel,
    metric: np.ndarray,
    sign: float,
    eps: float,
    start: int,
    steps: int,
    rng: np.random.Generator,
) -> tuple[float, np.ndarray, ConvexModel] | None:
    """Value, moves and retrained model at the end of one ascent."""
    field = sign * influence.slopes(model)
    if start:
        field = rng.standard_normal(field.shape)
    found = _at(influence, model, _steepest(model, metric, field, eps))
    for _ in range(steps):
        if found is None:
            return None
        value, moves, retrained = found
        ahead = _steepest(model, metric, sign * influence.slopes(retrained), eps)
        better = _better(influence, model, metric, sign, eps, moves, ahead, value)
        if better is None:
            break
        found = better
        if sign * (found[0] - value) <= _GAIN * abs(value):
            break
    return found


def _better(
    influence: Influence,
    model: ConvexModel,
    metric: np.ndarray,
    sign: float,
    eps: float,
    moves: np.ndarray,
    ahead: np.ndarray,
    value: float,
) -> tuple[float, np.ndarray, ConvexModel] | None:
    """The first of a few points towards `ahead`, on the sphere, that is better."""
    for share in _SHARES:
        mixed = (1 - share) * moves + share * ahead
        size = cost(model, metric, mixed)
        if size > 0:
            mixed = mixed * (eps * _INSIDE / size)
        found = _at(influence, model, mixed)
        if found is not None and sign * found[0] > sign * value:
            return found
    return None


def _at(
    influence: Influence, model: ConvexModel, moves: np.ndarray
) -> tuple[float, np.ndarray, ConvexModel] | None:
    design, labels = moved(model, moves)
    try:
        retrained = model.refit(design=design, labels=labels)
    except DataError:  # perturbed data without an optimum cannot be trained on
        return None
    return influence.of(retrained), moves, retrained


def _steepest(
    model: ConvexModel, metric: np.ndarray, field: np.ndarray, eps: float
) -> np.ndarray:
    """The move of cost eps along which the field's influence grows fastest, [N, m]."""
    raised = field @ metric
    size = np.sqrt(model.weights @ np.einsum("nm,nm->n", raised, field))
    return raised * (eps * _INSIDE / size) if size > 0 else np.zeros_like(raised)


def _on(model: ConvexModel, targets: Targets) -> Targets:
    """The same examples, seen by another model."""
    return Targets(model, targets.rows, targets.labels, targets.output)
