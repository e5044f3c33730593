"""What XLA compiles is kept in the user's cache folder: the second start is quick."""

import os
import warnings

import jax

from ..files import cache_folder


def keep_compiled_programs() -> None:
    """Tell JAX where, unless the environment or the program has told it already."""
    if jax.config.jax_compilation_cache_dir is None:  # pyright: ignore[reportAttributeAccessIssue]
        jax.config.update("jax_compilation_cache_dir", str(cache_folder() / "compiled"))
        for name, value in (
            ("jax_persistent_cache_min_compile_time_secs", 0.0),
            ("jax_persistent_cache_min_entry_size_bytes", -1),
        ):
            if name.upper() not in os.environ:
                jax.config.update(name, value)
    # An entry that another process is just writing is compiled afresh, with the same result.
    warnings.filterwarnings("ignore", message="Error (reading|writing) persistent compilation cache entry")
