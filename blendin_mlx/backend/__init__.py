"""mlx with a fast BLAS and private kernels: the only place that imports ``mlx.core``."""
