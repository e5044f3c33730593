"""Assertions that name the law that failed."""

from typing import Any

import jax.numpy as jnp
import numpy as np


def eps(dtype: Any = None) -> float:
    return float(jnp.finfo(jnp.result_type(float) if dtype is None else dtype).eps)


def require(holds: Any, message: str) -> None:
    if not bool(holds):
        raise AssertionError(message)


def require_close(got: Any, expected: Any, tolerance: float, law: str) -> None:
    error = float(np.max(np.abs(np.asarray(got, np.float64) - np.asarray(expected, np.float64)), initial=0.0))
    require(error <= tolerance, f"{law}: differs by {error:.3g}, more than {tolerance:.3g}.")
