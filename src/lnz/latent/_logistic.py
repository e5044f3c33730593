"""Logistic regression by Newton's method."""

import dataclasses

import numpy as np
from jaxtyping import Bool, Float

_NUM_STEPS = 100
_TOLERANCE = 1e-8


@dataclasses.dataclass(frozen=True)
class LogisticRegression:
    """`P(label = 1 | x) = sigmoid(weights . x + bias)`."""

    weights: Float[np.ndarray, " d"]
    bias: float

    @classmethod
    def fit(cls, x: Float[np.ndarray, "n d"], labels: Bool[np.ndarray, " n"], penalty: float) -> "LogisticRegression":
        """Minimises the mean negative log-likelihood plus `penalty / 2 |w|^2`, w the weights of standardised columns.

        The penalty makes the optimum unique, and finite where the classes can be separated.
        """
        if not penalty > 0:
            raise ValueError(f"`penalty` must be positive; got {penalty}.")
        mean, sd = x.mean(axis=0), x.std(axis=0)
        scale = np.where(sd > 0, sd, 1)
        standard = (x - mean) / scale
        # The optimum is a combination of the rows: with more columns than rows, search in the space that they span.
        basis = None
        if standard.shape[1] > len(standard):
            left, singular, basis = np.linalg.svd(standard, full_matrices=False)
            standard = left * singular
        w = _newton(np.column_stack([standard, np.ones(len(x))]), labels.astype(np.float64), penalty)
        weights = w[:-1] if basis is None else w[:-1] @ basis
        weights = weights / scale
        return cls(weights, float(w[-1] - weights @ mean))

    def predict(self, x: Float[np.ndarray, "n d"]) -> Bool[np.ndarray, " n"]:
        return x @ self.weights + self.bias > 0


def _newton(x: Float[np.ndarray, "n d"], y: Float[np.ndarray, " n"], penalty: float) -> Float[np.ndarray, " d"]:
    num = len(y)
    ridge = np.full(x.shape[1], penalty)
    ridge[-1] = 0  # the bias

    def loss(w):
        scores = x @ w
        return np.mean(np.logaddexp(0, scores) - y * scores) + 0.5 * np.sum(ridge * w**2)

    w = np.zeros(x.shape[1])
    rate = np.clip(y.mean(), 1e-12, 1 - 1e-12)
    w[-1] = np.log(rate) - np.log1p(-rate)
    value = loss(w)
    for _ in range(_NUM_STEPS):
        p = 0.5 * (1 + np.tanh(0.5 * (x @ w)))
        gradient = x.T @ (p - y) / num + ridge * w
        if np.max(np.abs(gradient)) < _TOLERANCE:
            return w
        curvature = np.maximum(p * (1 - p), 1e-10)
        step = np.linalg.solve((x.T * (curvature / num)) @ x + np.diag(ridge), gradient)
        size, decrease = 1.0, float(gradient @ step)
        while loss(w - size * step) > value - 1e-4 * size * decrease and size > 1e-10:
            size /= 2
        if size <= 1e-10:  # the loss is flat to rounding
            return w
        w = w - size * step
        value = loss(w)
    return w
