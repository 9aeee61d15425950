"""Small convex problems, one for each loss, and oracles that share none of our code."""

from __future__ import annotations

import numpy as np
from scipy import optimize

from natgeo.convex.fit import fit

LOSSES = ("squared", "logistic", "multinomial")


def data(loss, *, n=60, d=4, classes=3, seed=0):
    rng = np.random.default_rng([seed, LOSSES.index(loss)])
    x = rng.normal(size=(n, d)) * np.array([1.0, 3.0, 0.2, 10.0])[:d] + 1.0
    z = (x - x.mean(0)) / x.std(0)
    if loss == "squared":
        return x, z @ rng.normal(size=d) + rng.normal(size=n) * 0.5 + 3.0
    if loss == "logistic":
        y = z @ rng.normal(size=d) + rng.logistic(size=n) > 0
        return x, np.where(y, "yes", "no")
    noise = rng.gumbel(size=(n, classes))
    return x, np.argmax(z @ rng.normal(size=(d, classes)) + noise, axis=1) + 5


def model(loss, *, ridge=0.05, weights="random", seed=0, **options):
    x, y = data(loss, seed=seed)
    if isinstance(weights, str):
        weights = np.random.default_rng(9).uniform(0.5, 1.5, len(x))
    return fit(x, y, loss=loss, ridge=ridge, weights=weights, **options)


def risk(model, theta):
    """The risk by its printed formula, in logits [p, C] for several classes."""
    theta = theta.reshape(model.design.shape[1], -1)
    u = model.design @ theta
    if model.loss.name == "squared":
        losses = 0.5 * (u[:, 0] - model.labels) ** 2
    elif model.loss.name == "logistic":
        losses = np.log1p(np.exp(-(2 * model.labels - 1) * u[:, 0]))
    else:
        losses = np.log(np.exp(u).sum(axis=1)) - u[np.arange(len(u)), model.labels]
    ridge = np.sum(model.penalty[:, None] * theta**2)
    return model.weights @ losses + 0.5 * ridge


def minimum(model):
    """The minimiser of `risk` by a general-purpose solver, from zero."""
    outputs = {"squared": 1, "logistic": 1}.get(
        model.loss.name, getattr(model.loss, "classes", None)
    )
    start = np.zeros(model.design.shape[1] * outputs)
    done = optimize.minimize(
        lambda theta: risk(model, theta), start, method="BFGS", options={"gtol": 1e-8}
    )
    return done.x.reshape(-1, outputs)


def derivative(function, step):
    """Central difference with one Richardson step: error of order step^4."""
    once = (function(step) - function(-step)) / (2 * step)
    twice = (function(2 * step) - function(-2 * step)) / (4 * step)
    return (4 * once - twice) / 3
