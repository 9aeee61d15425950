"""Does an attribution mean anything? Truth by retraining, and how stable a score is.

The public names, one per line. They are resolved on first use: judging scores needs no
JAX, training models does.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from natgeo.evaluate.agreement import Agreement as Agreement
    from natgeo.evaluate.choice import Choice as Choice
    from natgeo.evaluate.choice import choose as choose
    from natgeo.evaluate.choice import ridges as ridges
    from natgeo.evaluate.choice import suggested_width as suggested_width
    from natgeo.evaluate.detection import auroc as auroc
    from natgeo.evaluate.detection import recall_at as recall_at
    from natgeo.evaluate.detection import recall_curve as recall_curve
    from natgeo.evaluate.growth import Grown as Grown
    from natgeo.evaluate.growth import ensemble_growth as ensemble_growth
    from natgeo.evaluate.removal import RemovalCurve as RemovalCurve
    from natgeo.evaluate.removal import removal_curve as removal_curve
    from natgeo.evaluate.retraining import Retrained as Retrained
    from natgeo.evaluate.retraining import further as further
    from natgeo.evaluate.retraining import retrain as retrain
    from natgeo.evaluate.stability import Comparison as Comparison
    from natgeo.evaluate.stability import Stability as Stability
    from natgeo.evaluate.stability import against_certificates as against_certificates
    from natgeo.evaluate.stability import resample_checkpoints as resample_checkpoints
    from natgeo.evaluate.stability import resample_examples as resample_examples
    from natgeo.evaluate.subsets import half_subsets as half_subsets
    from natgeo.evaluate.subsets import leave_out as leave_out
    from natgeo.evaluate.training import Sgd as Sgd
    from natgeo.evaluate.training import outputs_of as outputs_of
    from natgeo.evaluate.training import shuffled as shuffled
    from natgeo.evaluate.truth import LeaveOneOut as LeaveOneOut
    from natgeo.evaluate.truth import ceiling as ceiling
    from natgeo.evaluate.truth import lds as lds
    from natgeo.evaluate.truth import leave_one_out as leave_one_out

_NAMES = {
    "Agreement": "agreement",
    "Choice": "choice",
    "Comparison": "stability",
    "Grown": "growth",
    "LeaveOneOut": "truth",
    "RemovalCurve": "removal",
    "Retrained": "retraining",
    "Sgd": "training",
    "Stability": "stability",
    "against_certificates": "stability",
    "auroc": "detection",
    "ceiling": "truth",
    "choose": "choice",
    "ensemble_growth": "growth",
    "further": "retraining",
    "half_subsets": "subsets",
    "lds": "truth",
    "leave_one_out": "truth",
    "leave_out": "subsets",
    "outputs_of": "training",
    "recall_at": "detection",
    "recall_curve": "detection",
    "removal_curve": "removal",
    "resample_checkpoints": "stability",
    "resample_examples": "stability",
    "retrain": "retraining",
    "ridges": "choice",
    "shuffled": "training",
    "suggested_width": "choice",
}
__all__ = sorted(_NAMES)


def __getattr__(name: str) -> Any:
    if name not in _NAMES:
        raise AttributeError(f"module 'natgeo.evaluate' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_NAMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return list(__all__)
