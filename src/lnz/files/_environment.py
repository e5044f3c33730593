"""The environment that a result depends on: versions, device, number of threads, precision."""

import os
import platform
from importlib.metadata import version

import jax


def environment() -> dict[str, str]:
    """Versions, device, cores and precision, in words."""
    device = jax.devices()[0]
    products = jax.config.jax_default_matmul_precision  # pyright: ignore[reportAttributeAccessIssue]
    return {
        "python": platform.python_version(),
        **{name: version(name) for name in ("lnz", "jax", "jaxlib", "equinox", "optax", "numpy")},
        "device": f"{jax.device_count()} x {device.device_kind} ({device.platform}), {platform.machine()}",
        "cores": str(num_cores()),
        "flags": os.environ.get("XLA_FLAGS", ""),
        "precision": "float64" if jax.config.read("jax_enable_x64") else "float32",
        "products": str(products or "default"),
    }


def num_cores() -> int:
    """Number of cores that this process may use; XLA starts as many threads."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
