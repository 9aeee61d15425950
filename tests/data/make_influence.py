"""Writes influence.npz: influences by pyinfluence and captum, which are not ours.

The case of pyinfluence's README (ridge regression on `make_regression`), its binary
logistic regression with a group gap on breast cancer, and captum's
`NaiveInfluenceFunction`, whose explicit Hessian its documentation calls the ground
truth, for softmax regression on wine. Run `python tests/data/make_influence.py` in an
environment with pyinfluence 0.5.0, captum 0.9.0 and torch; the tests read the file and
need none of them.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import torch
from captum.influence import NaiveInfluenceFunction
from pyinfluence import FunctionalInfluence, InfluenceFunctions
from pyinfluence.functionals import group_gap
from sklearn.datasets import load_breast_cancer, load_wine, make_regression
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import train_test_split

CAPTUM_RIDGE = 2.0  # added to captum's sum of Hessians


def main() -> None:
    arrays = {**regression(), **classification(), **several_classes()}
    np.savez_compressed(Path(__file__).with_name("influence.npz"), **arrays)


def regression() -> dict[str, np.ndarray]:
    """pyinfluence's quick start, without its damping."""
    x, y = make_regression(n_samples=200, n_features=10, noise=0.1, random_state=0)
    x, xt, y, yt = train_test_split(x, y, test_size=0.2, random_state=0)
    xt, yt = xt[:8], yt[:8]
    fitted = Ridge(alpha=1.0).fit(x, y)
    return {
        "ridge_x": x,
        "ridge_y": y,
        "ridge_xt": xt,
        "ridge_yt": yt,
        "ridge_loss": scores(fitted, "loss", x, y, xt, yt),
        "ridge_prediction": scores(fitted, "prediction", x, y, xt, yt),
    }


def classification() -> dict[str, np.ndarray]:
    """Breast cancer, every other row; the gap is between large and small tumours."""
    x, y = load_breast_cancer(return_X_y=True)
    x = np.round((x - x.mean(0)) / x.std(0), 3)[::2, :10]
    y = y[::2]
    x, xt, y, yt = x[:-8], x[-8:], y[:-8], y[-8:]
    fitted = LogisticRegression(C=0.5, tol=1e-12, solver="newton-cholesky").fit(x, y)
    gap = FunctionalInfluence(
        group_gap(groups=(x[:, 0] > 0).astype(int)), damping=0.0
    ).fit(fitted, x, y)
    return {
        "logistic_x": x,
        "logistic_y": y,
        "logistic_xt": xt,
        "logistic_yt": yt,
        "logistic_loss": scores(fitted, "loss", x, y, xt, yt),
        "logistic_prediction": scores(fitted, "prediction", x, y, xt, yt),
        "logistic_gap": gap.explain(x, y),
    }


def scores(fitted, mode, x, y, xt, yt) -> np.ndarray:
    found = InfluenceFunctions(mode=mode, damping=0.0).fit(fitted, x, y)
    return found.explain(xt, yt)


def several_classes() -> dict[str, np.ndarray]:
    """Softmax regression with a weight for every class and a ridge on all of them."""
    x, y = load_wine(return_X_y=True)
    x = np.round((x - x.mean(0)) / x.std(0), 3)
    x = np.hstack([x, np.ones((len(x), 1))])
    x, xt, y, yt = x[:-8], x[-8:], y[:-8], y[-8:]
    model = torch.nn.Linear(x.shape[1], 3, bias=False).double()
    with torch.no_grad():
        model.weight.copy_(torch.tensor(softmax_optimum(x, y)))
    train = torch.utils.data.TensorDataset(torch.tensor(x), torch.tensor(y))
    with tempfile.NamedTemporaryFile(suffix=".pt") as file:
        torch.save(model.state_dict(), file.name)
        naive = NaiveInfluenceFunction(
            model,
            train,
            file.name,
            loss_fn=torch.nn.CrossEntropyLoss(reduction="none"),
            batch_size=32,
            projection_dim=3 * x.shape[1],
            hessian_reg=CAPTUM_RIDGE,
            hessian_inverse_tol=0.0,
        )
        found = naive.influence((torch.tensor(xt), torch.tensor(yt)))
        own = naive.self_influence()
    return {
        "wine_x": x,
        "wine_y": y,
        "wine_xt": xt,
        "wine_yt": yt,
        "wine_ridge": np.float64(CAPTUM_RIDGE),
        "wine_loss": found.numpy(),
        "wine_self": own.numpy(),
    }


def softmax_optimum(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Weights [3, p] at the optimum with the ridge, by thirty Newton steps."""
    weights = np.zeros((3, x.shape[1]))
    for _ in range(30):
        odds = np.exp(x @ weights.T)
        p = odds / odds.sum(axis=1, keepdims=True)
        slope = (p - np.eye(3)[y]).T @ x + CAPTUM_RIDGE * weights
        inner = np.einsum("nc,cd->ncd", p, np.eye(3)) - np.einsum("nc,nd->ncd", p, p)
        hessian = np.einsum("ncd,nj,nk->cjdk", inner, x, x).reshape(weights.size, -1)
        hessian += CAPTUM_RIDGE * np.eye(weights.size)
        weights -= np.linalg.solve(hessian, slope.ravel()).reshape(weights.shape)
    return weights


if __name__ == "__main__":
    main()
