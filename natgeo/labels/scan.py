"""Which labels look wrong: scores, evidence, and what of their order is certified."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from natgeo import checks
from natgeo.certify.self_influence import SelfInfluenceOrder, certify_self_influence
from natgeo.errors import ArgumentError
from natgeo.evaluate import detection
from natgeo.geometry.natural import NaturalGeometry
from natgeo.labels import evidence, sources
from natgeo.labels.detectors import Suggestion
from natgeo.labels.support import Support, strongest

# Parts of the most suspicious examples whose members are certified.
SHARES = (0.05, 0.1, 0.2)


@dataclass(frozen=True, eq=False)
class Suspect:
    """What a scan says about one example.

    Attributes:
        index: of the example in the training set.
        rank: place by the detector of the scan; 1 is the most suspicious.
        score: of that detector.
        given: its label, or None if the scan does not know the labels.
        suggested: the likeliest other label, or None without predictions.
        confidence: probability of the suggested label.
        given_probability: probability of the given label.
        supports_given: training examples that speak most for the given label.
        supports_suggested: those that speak most for the suggested one.
        lowest: best rank by self-influence that is certified possible, or None.
        highest: worst rank likewise.
    """

    index: int
    rank: int
    score: float
    given: int | None = None
    suggested: int | None = None
    confidence: float | None = None
    given_probability: float | None = None
    supports_given: tuple[int, ...] = ()
    supports_suggested: tuple[int, ...] = ()
    lowest: int | None = None
    highest: int | None = None


@dataclass(frozen=True, eq=False)
class LabelScan:
    """Suspicion scores of every training example; larger is more suspicious.

    Attributes:
        scores: detector name -> [N]; which of them there are depends on what the scan
            was given: `self-influence` always.
        detector: the one that orders the examples unless another is asked for.
        geometry: the natural geometry of the loss features (of the last checkpoint).
        labels: given labels, [N], or None.
        suggestion: the likeliest other label, with probabilities, or None.
        choices: what was chosen, in words.
        features_as: loss features of examples with other labels than the given ones,
            `(indices, labels)` -> [Q, K], or None without a model.
    """

    scores: dict[str, np.ndarray]
    detector: str
    geometry: NaturalGeometry
    labels: np.ndarray | None = None
    suggestion: Suggestion | None = None
    choices: Mapping[str, str] = field(default_factory=dict)
    features_as: Callable[[np.ndarray, np.ndarray], Any] | None = None
    _orders: dict[float, SelfInfluenceOrder] = field(default_factory=dict, repr=False)

    def __repr__(self) -> str:
        n, k = self.geometry.train.shape
        return f"LabelScan(N={n}, K={k}, by {self.detector})"

    def suspicious(self, count: int | None = None, by: str | None = None) -> np.ndarray:
        """Indices of the most suspicious examples, worst first.

        Args:
            count: how many; None for all.
            by: a detector of `scores`; None for the default one.

        Raises:
            ArgumentError: for a detector that this scan does not have.
        """
        by = self.detector if by is None else by
        if by not in self.scores:
            raise ArgumentError(f"by={by!r}: this scan has {', '.join(self.scores)}.")
        order = np.argsort(-self.scores[by], kind="stable")
        return order if count is None else order[: checks.count("count", count)]

    def detection(self, wrong: Any) -> dict[str, dict[str, float]]:
        """AUROC and recall in the top 20 % of each detector, when the truth is known.

        Args:
            wrong: which labels are wrong, [N] booleans.
        """
        return {
            name: {
                "auroc": detection.auroc(values, wrong),
                "recall_at_20": detection.recall_at(values, wrong, 0.2),
            }
            for name, values in self.scores.items()
        }

    def certify(self, eps: float, *, progress: bool = False) -> SelfInfluenceOrder:
        """What is proven about the order by self-influence; computed once for an eps.

        Args:
            eps: radius of the order-2 natural ball.
            progress: show a bar on standard error if it takes over a second.
        """
        if eps not in self._orders:
            found = certify_self_influence(self.geometry, eps, progress=progress)
            self._orders[eps] = found
        return self._orders[eps]

    def support(
        self, indices: Any, k: int = 3, *, suggested: bool = False
    ) -> Support | None:
        """The training examples that speak most for a label of some examples.

        Where the labels are known, only examples that have that label count.

        Args:
            indices: examples of the training set, [Q].
            k: how many for each.
            suggested: for the suggested label instead of the given one; None if this
                scan has no model or no predictions.
        """
        size = self.geometry.train.shape[0]
        wanted = checks.indices("indices", indices, size)
        labels = self.labels
        if not suggested:
            features = self.geometry.train.rows(wanted)
        elif self.features_as is None or self.suggestion is None:
            return None
        else:
            labels = self.suggestion.labels
            features = self.features_as(wanted, labels[wanted])
        return strongest(
            self.geometry,
            features,
            wanted,
            k,
            labels=self.labels,
            wanted=None if labels is None else labels[wanted],
        )

    def suspects(
        self, count: int = 20, *, eps: float | None = None, k: int = 3
    ) -> list[Suspect]:
        """The most suspicious examples with everything that is known about them.

        Args:
            count: how many.
            eps: radius at which ranks by self-influence are certified; None leaves
                them out.
            k: how many supporting examples for each label.
        """
        top = self.suspicious(count)
        given, other = self.support(top, k), self.support(top, k, suggested=True)
        ranks = None if eps is None else self.certify(eps).ranks()
        values = self.scores[self.detector]
        found = []
        for place, i in enumerate(int(i) for i in top):
            said: dict[str, Any] = {}
            if self.labels is not None:
                said["given"] = int(self.labels[i])
            if self.suggestion is not None:
                said["suggested"] = int(self.suggestion.labels[i])
                said["confidence"] = float(self.suggestion.confidence[i])
                said["given_probability"] = float(self.suggestion.given[i])
            if ranks is not None:
                said["lowest"], said["highest"] = int(ranks[i, 0]), int(ranks[i, 1])
            found.append(
                Suspect(
                    i,
                    place + 1,
                    float(values[i]),
                    supports_given=_named(given, place),
                    supports_suggested=_named(other, place),
                    **said,
                )
            )
        return found


def scan_labels(
    source: Any,
    params: Any = None,
    data: Any = None,
    *,
    ridge: float | None = None,
    labels: Any = None,
    logits: Any = None,
    checkpoints: Sequence[Any] | None = None,
    layers: str | None = None,
    every_influence: bool = False,
    fit: Callable[[np.ndarray, np.ndarray], Any] | str | None = None,
    folds: int = 5,
    readouts: Sequence[Any] | None = None,
    opinions: Mapping[str, Any] | None = None,
    projector: Any = None,
    store: Any = None,
    batch_size: int | None = None,
    seed: int = 0,
    progress: bool = False,
) -> LabelScan:
    """Scores every training example by how suspicious its label is.

    SI_i = norm(w_i)^2 on *loss* features: their gradient carries the residual 1 - p of
    the given label, so an example that the model fits badly and that few others support
    has a large one. Margin features do not carry the residual and are refused. Beside
    it stand scores of predictions (`natgeo.labels.detectors`); `LabelScan.detector`
    names the one that orders the examples, chosen by what the scan was given.

    From features that are there already:

        scan_labels(store)                               a store, or an [N, K] array
        scan_labels([store_1, store_2], labels=y)        one for each checkpoint

    From a model and arrays:

        scan_labels(apply, params, (x, y), checkpoints=[params_1, params_2])

    Args:
        source: loss features as above (`featurize` with
            `tasks.classification(apply, output="loss")`), or `apply(params, x)` ->
            logits, [B, classes].
        params: with a model: its parameters.
        data: with a model: arrays `(x, y)`.
        ridge: as in `natural_geometry`.
        labels: with features: the given labels, [N], whole numbers from 0.
        logits: with features: predictions of the model, [N, classes], or of several
            checkpoints, [C, N, classes].
        checkpoints: with a model: further parameters, of earlier epochs for instance;
            scores of predictions are then averaged over all of them.
        layers: with a model: features of the parameters whose path matches this
            regular expression alone; see `tasks.restricted`.
        every_influence: with a model: self-influence at every checkpoint, averaged by
            rank, and not at `params` alone; costs the features of each.
        fit: with a model: `fit(x, y)` -> params, a training run on part of the data.
            Predictions are then made by models that were not trained on the example.
            "closed form" is ridge regression on x, for inputs that are embeddings or
            table columns.
        folds: parts of the cross-fitting.
        readouts: representations of the examples without their labels in them, which
            are asked for a second opinion (`left_out.leave_one_out`): arrays [N, D], or
            with a model functions `(params, x)` -> [B, D], such as the inputs of its
            last layer. Default with a model: the inputs themselves
            (`inputs.input_readouts`); () for none.
        opinions: with a model: names and log-probabilities [N, classes] of others that
            were not trained on the example, cross-fitted for instance. They are weighed
            by how well they predict the given labels (`detectors.stacked`), and decide
            in the place of the model and of readouts.
        projector: with a model: default a CountSketch to at most 512 dimensions.
        store: with a model: a new folder for the features; default: memory.
        batch_size: with a model: examples of a step, as in `featurize`.
        seed: of the folds.
        progress: show bars on standard error for what takes over a second.

    Raises:
        ArgumentError: for arguments that cannot be used together.
        DataError: if features, labels or logits cannot be used, or the store says that
            its features are not loss features.
    """
    if callable(source) and not hasattr(source, "blocks"):
        if labels is not None or logits is not None:
            raise ArgumentError(
                "labels and logits belong to features; with a model, labels are in "
                "data=(x, y)."
            )
        found = sources.from_model(
            source,
            params,
            data,
            ridge=ridge,
            checkpoints=checkpoints,
            layers=layers,
            every_influence=every_influence,
            fit=fit,
            folds=folds,
            readouts=readouts,
            opinions=opinions,
            projector=projector,
            store=store,
            batch_size=batch_size,
            seed=seed,
            progress=progress,
        )
    else:
        named = {
            "params": params,
            "data": data,
            "checkpoints": checkpoints,
            "layers": layers,
            "fit": fit,
            "opinions": opinions,
            "projector": projector,
            "store": store,
            "batch_size": batch_size,
        }
        given = [name for name, value in named.items() if value is not None]
        if given:
            raise ArgumentError(
                f"{given[0]}= needs a model: call scan_labels(apply, params, (x, y))."
            )
        found = sources.from_features(
            source, ridge=ridge, labels=labels, logits=logits, readouts=readouts
        )
    scores, detector = evidence.scores(found)
    return LabelScan(
        scores,
        detector,
        found.geometries[-1],
        found.labels,
        found.suggestion,
        found.choices,
        found.features_as,
    )


def _named(support: Support | None, place: int) -> tuple[int, ...]:
    if support is None:
        return ()
    return tuple(int(i) for i in support.indices[place] if i >= 0)
