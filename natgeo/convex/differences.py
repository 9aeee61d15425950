"""How far the difference of two influences on one target can move, proven.

**Squared loss.** In the notation of `intervals_squared`, I(i, t) - I(j, t) is
-rho^2 (eta_t - A) J with J = (eta_i - B_i) C_i - (eta_j - B_j) C_j. The sign of the
target's residual is certain if its exact range excludes zero. With w = eta_i xi_i -
eta_j xi_j and g = q_i xi_i - q_j xi_j,

    J = xi_t.w - b.g - xi_t^T E_N w + Rem,
    Rem = beta^T E_N g + xi_t^T E_N N^-1 E_N w
          - beta^T (xi_i xi_i^T - xi_j xi_j^T) (N^-1 - I) xi_t.

The part that is linear in E is <G, E> with norm_F(G)^2 = (n_t^2 |w|^2 + (xi_t.w)^2 +
|g|^2) / 2, hence at most 2 eps norm_F(G) + eps^2 ||G||, ||G|| <= (n_t |w| + |xi_t.w| +
|g|) / 2. The norm of a difference of two projections is at most the larger of theirs,
so |Rem| <= 4 c0 x^2 + 4 g c1 x y and so on (`intervals_squared.joint`) with
c0 = h n_t |w| and c1 = |g| + h n_t max(n_i^2, n_j^2).

**Other losses.** The first order of the difference is eps sqrt(E norm(grad S_i - grad
S_j)^2), and the remainders of both add up.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from natgeo import resources
from natgeo.certify.bounds import norm, row_norms, upward
from natgeo.convex import intervals_smooth, intervals_squared
from natgeo.convex.intervals import (
    ProvenIntervals,
    example_of,
    explained,
    grounded,
    whitened,
)
from natgeo.convex.outputs import Targets
from natgeo.convex.stability import GROWN, LOST, stability

# Relative rounding of a squared distance formed from a Gram matrix.
_GRAM = 2.0**-40


@dataclass(frozen=True, eq=False)
class Squared:
    """Differences of influences under squared loss; [B] unless said otherwise.

    Attributes:
        sign: of -rho^2 (eta_t - A) or of rho; 0 where it is not certain.
        values: eta q as computed.
        errors: bounds of its error, and so below.
        w, g: rows eta xi and q xi, [B, p].
        w_errors, g_errors: bounds of their errors.
        lengths: upper bounds of norm(xi).
        target_length: of norm(xi_t).
        scales: of the radius.
    """

    sign: float
    values: np.ndarray
    errors: np.ndarray
    w: np.ndarray
    g: np.ndarray
    w_errors: np.ndarray
    g_errors: np.ndarray
    lengths: np.ndarray
    target_length: float
    scales: intervals_squared.Scales

    def bound(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """J of rows against all, with its sign, and how far J can move, [R, B]."""
        gap = self.values[rows][:, None] - self.values[None]
        error = upward(self.errors[rows][:, None] + self.errors[None])
        error = error + 2.0**-52 * np.abs(gap)
        if not (self.sign and self.scales.eps < 1):
            return gap, np.full(gap.shape, np.inf)
        w = _distances(self.w, self.w_errors, rows)
        g = _distances(self.g, self.g_errors, rows)
        eps, h, n = self.scales.eps, self.scales.h, self.target_length
        score = np.abs(gap) + error
        longest = np.maximum(self.lengths[rows][:, None], self.lengths[None])
        linear = eps * np.sqrt(2 * (n * n * w * w + score * score + g * g))
        squared = eps**2 * (n * w + score + g) / 2
        none = np.zeros_like(gap)
        rest = intervals_squared.joint(
            h * n * w, g + h * n * longest**2, none, none, self.scales
        )
        return self.sign * gap, upward(linear + squared + rest + error)


def squared(one: Targets, intervals: ProvenIntervals) -> Squared:
    """What `Squared` needs of one target."""
    known, target = grounded(one.model), explained(one)
    scales = intervals_squared.Scales.at(intervals.radius)
    examples = known.train.take(intervals.train)
    residual = target.retrained(scales)
    sign = float(residual.low[0] > 0) - float(residual.high[0] < 0)
    q, eta = target.points.products(examples), examples.residuals
    middle = (q.low + q.high) / 2
    value = eta * q
    values = (value.low + value.high) / 2
    lengths = examples.lengths
    shrunk = 2.0**-50 * lengths
    return Squared(
        sign if target.linear else -sign,
        values,
        upward((value.high - value.low) / 2 + 2.0**-50 * np.abs(values)),
        examples.xi * examples.eta[:, None],
        examples.xi * middle[:, None],
        upward(eta.size * (examples.slack + shrunk) + examples.slack * lengths),
        upward(
            q.size * (examples.slack + shrunk)
            + ((q.high - q.low) + 2.0**-50 * q.size) * lengths
        ),
        lengths,
        float(target.points.lengths[0]),
        scales,
    )


@dataclass(frozen=True, eq=False)
class Smooth:
    """Differences of influences under the other losses.

    Attributes:
        values: computed influences, [B].
        rests: bounds of all but their first order, [B].
        fields: eps times weighted, whitened slope fields of the kernel, [B, N m].
    """

    values: np.ndarray
    rests: np.ndarray
    fields: np.ndarray

    def bound(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Differences of rows against all, and how far they can move, [R, B]."""
        gap = self.values[rows][:, None] - self.values[None]
        first = _distances(self.fields, np.zeros(len(self.fields)), rows, LOST)
        rest = self.rests[rows][:, None] + self.rests[None]
        return gap, (first + rest) * GROWN


def smooth(one: Targets, intervals: ProvenIntervals) -> Smooth:
    """What `Smooth` needs of one target."""
    model, eps = one.model, intervals.radius
    known = stability(whitened(model), eps)
    metric = known.about.metric
    count, numbers = len(intervals.train), len(model.design) * len(metric)
    resources.require_memory(
        24 * count * numbers,
        f"Slope fields of {count:,} examples",
        "Name fewer examples with train=.",
    )
    # Rounded up in effect: the root's own error is far below GROWN.
    values, vectors = np.linalg.eigh(metric)
    root = vectors * np.sqrt(np.maximum(values, 0) + LOST * norm(metric))
    scale = eps * np.sqrt(model.weights)[:, None]
    found, fields = [], np.empty((count, numbers))
    for place, i in enumerate(intervals.train):
        bound = intervals_smooth.bounded(known, one, example_of(model, i))
        found.append((bound.influence, bound.rest))
        fields[place] = (scale * (bound.field @ root)).ravel()
    influences, rests = np.array(found).reshape(-1, 2).T
    return Smooth(influences, rests, fields)


def _distances(
    vectors: np.ndarray, errors: np.ndarray, rows: np.ndarray, lost: float = _GRAM
) -> np.ndarray:
    """Upper bounds of the distances of rows to all vectors, [R, B]."""
    squares = row_norms(vectors) ** 2
    both = squares[rows][:, None] + squares[None]
    product = vectors[rows] @ vectors.T
    distance = np.sqrt(np.maximum(both - 2 * product, 0) + lost * both)
    return upward(distance + errors[rows][:, None] + errors[None])
