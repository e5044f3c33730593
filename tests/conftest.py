import gc
import os
from importlib.metadata import version

# Before JAX starts: every law also runs under a checker of shapes and types, with no silent promotions.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Most of the time goes into compiling thousands of small programs, which takes half as long without LLVM's
# optimisations, half of that without the emitter of fused loops that sets up a compiler of its own for each, and a
# fifth less when a program is not split into parts that could be compiled side by side. XLA ends the process at a flag
# that it does not know, and jaxlib 0.12 no longer knows the second. With `XLA_FLAGS=` in the environment the programs
# are those that users run.
os.environ.setdefault(
    "XLA_FLAGS",
    "--xla_backend_optimization_level=0 --xla_cpu_parallel_codegen_split_count=1"
    + (" --xla_cpu_use_fusion_emitters=false" if version("jaxlib").startswith("0.10.") else ""),
)
# Each operation is lowered with its Python traceback, unless told otherwise: 7% of the time.
os.environ.setdefault("JAX_TRACEBACK_IN_LOCATIONS_LIMIT", "0")

from jaxtyping import install_import_hook

with install_import_hook("lnz", "beartype.beartype"):
    import lnz
    import lnz.recipes
    import lnz.testing  # noqa: F401

import jax
import jaxtyping
import pytest

jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_numpy_dtype_promotion", "strict")


def pytest_collection_finish(session):
    """A tenth of the time goes into looking for garbage among objects that live as long as the tests."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)


@pytest.fixture(autouse=True, scope="module")
def _forget_programs():
    """Programs that one file of tests compiled are of no use to the next, and thousands of them take gigabytes."""
    yield
    jax.clear_caches()


@pytest.fixture(params=["float32", "float64"])
def precision(request):
    """Both floating-point precisions; instances must be built inside."""
    with jax.enable_x64(request.param == "float64"):
        yield request.param


@pytest.fixture
def float64():
    with jax.enable_x64(True):
        yield


@pytest.fixture
def untyped():
    """As users run it, without the checker, which would answer a wrong type before the library's own message."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)
