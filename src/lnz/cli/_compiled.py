"""Compiled programs are kept in the user's cache folder, so that the second start is quick."""

import os
import warnings

import jax

from ..files import cache_folder


def keep_compiled_programs() -> None:
    """Set JAX's cache folder, unless the environment or the program has already set one."""
    if jax.config.jax_compilation_cache_dir is None:  # pyright: ignore[reportAttributeAccessIssue]
        jax.config.update("jax_compilation_cache_dir", str(cache_folder() / "compiled"))
        for name, value in (
            ("jax_persistent_cache_min_compile_time_secs", 0.0),
            ("jax_persistent_cache_min_entry_size_bytes", -1),
        ):
            if name.upper() not in os.environ:
                jax.config.update(name, value)
    # JAX compiles an entry again, with the same result, if another process is writing it at this moment.
    warnings.filterwarnings("ignore", message="Error (reading|writing) persistent compilation cache entry")
