"""The printed formulas in NumPy float64, with an explicit inverse; no natgeo here."""

import numpy as np


def covariance(features, ridge):
    """Q = (1/N) sum_i phi_i phi_i^T + ridge I, one outer product at a time."""
    features = np.asarray(features, np.float64)
    total = np.zeros((features.shape[1],) * 2)
    for row in features:
        total += np.outer(row, row)
    return total / len(features) + ridge * np.eye(len(total))


def scores(features, targets, ridge, weights=None):
    """tau[t, i] = r_i phi_t^T Q^-1 phi_i, one pair at a time."""
    features, targets = np.float64(features), np.float64(targets)
    weights = np.ones(len(features)) if weights is None else np.float64(weights)
    inverse = np.linalg.inv(covariance(features, ridge))
    return np.array(
        [
            [r * (t @ inverse @ f) for f, r in zip(features, weights, strict=True)]
            for t in targets
        ]
    )


def self_influence(features, ridge, rows=None):
    """SI_i = phi_i^T Q^-1 phi_i, of the features or of other rows."""
    rows = features if rows is None else rows
    inverse = np.linalg.inv(covariance(features, ridge))
    return np.array([f @ inverse @ f for f in np.float64(rows)])


def distance(features, ridge, first, second):
    """sqrt((phi - phi')^T Q^-1 (phi - phi'))."""
    d = np.float64(first) - np.float64(second)
    return np.sqrt(d @ np.linalg.inv(covariance(features, ridge)) @ d)


def effective_dimension(features, ridge):
    """tr(Q^-1 (Q - ridge I))."""
    q = covariance(features, ridge)
    return np.trace(np.linalg.inv(q) @ (q - ridge * np.eye(len(q))))
