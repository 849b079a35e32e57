"""Where mlx is imported first: the BLAS is chosen before, and kernels are kept private.

from .backend.mlx import mx
"""

from __future__ import annotations

from .blas import Blas, preload
from .private import keep_kernels_private

BLAS: Blas = preload()
keep_kernels_private()

# mlx binds its BLAS on import, so the choice comes first.
import mlx.core as mx  # noqa: E402
import mlx.nn as nn  # noqa: E402

__all__ = ["BLAS", "is_cpu", "mx", "nn"]


def is_cpu() -> bool:
    """Return whether MLX computes on the CPU by default, where quantized products are slow."""
    return bool(mx.default_device().type == mx.cpu)
