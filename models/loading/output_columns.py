"""The output layer's weights as a CPU's BLAS reads them fastest: ``[in, out]``, not ``[out, in]``.

For a token its matrix, the largest of a model, is read once. Kept as it is multiplied that takes
two thirds of the time, with the same bits; smaller matrices gain nothing. An embedding that also is
the output layer is kept once, in that form: a token's row is then a column of it.
"""

from __future__ import annotations

from typing import Any

from blendin_mlx.backend.mlx import mx, nn

_BLOCK = 128  # rows that a core's cache holds while they are turned


def transposed(matrix: mx.array) -> tuple[mx.array, mx.array]:
    """Return the contiguous transpose of ``[n, m]`` and the copy that leads to it, lazily.

    It is turned block by block, then the blocks are put in order: a copy in one go misses the cache
    at each number, and takes two and a half times as long.
    """
    rows, width = matrix.shape
    size = _BLOCK if rows % _BLOCK == 0 else rows
    blocks = mx.contiguous(matrix.reshape(-1, size, width).transpose(0, 2, 1))
    return blocks, mx.contiguous(blocks.transpose(1, 0, 2)).reshape(width, rows)


class ColumnLinear(nn.Linear):  # type: ignore[misc] # mlx has no types
    """Linear layer with its weights as ``columns`` ``[in, out]``."""

    def __init__(self, layer: nn.Linear) -> None:
        nn.Module.__init__(self)
        self._blocks, self.columns = transposed(layer.weight)
        if "bias" in layer:
            self.bias = layer.bias

    @property
    def weight(self) -> mx.array:
        """The weights ``[out, in]``."""
        return self.columns.T

    def __call__(self, x: mx.array) -> mx.array:
        """Return ``[..., out]``."""
        y = x @ self.columns
        return y + self.bias if "bias" in self else y


class ColumnEmbedding(nn.Embedding):  # type: ignore[misc]
    """Embedding and output layer with their one weight as ``columns`` ``[width, tokens]``."""

    def __init__(self, layer: nn.Embedding) -> None:
        nn.Module.__init__(self)
        self._blocks, self.columns = transposed(layer.weight)

    @property
    def weight(self) -> mx.array:
        """The embeddings ``[tokens, width]``."""
        return self.columns.T

    def __call__(self, ids: mx.array) -> mx.array:
        """Return ``[..., width]``."""
        return mx.moveaxis(mx.take(self.columns, ids, axis=1), 0, -1)

    def as_linear(self, x: mx.array) -> mx.array:
        """Return ``[..., tokens]``."""
        return x @ self.columns


def keep_output_columns(network: Any) -> None:
    """Replace the dense output layer of a network, lazily: its ``lm_head``, else its embedding."""
    modules = [module for _, module in network.named_modules()]
    name = "lm_head" if any("lm_head" in module for module in modules) else "embed_tokens"
    for module in modules:
        layer = module.get(name)
        if type(layer) is nn.Linear:
            setattr(module, name, ColumnLinear(layer))
        elif type(layer) is nn.Embedding:
            setattr(module, name, ColumnEmbedding(layer))


def evaluate_blocks(network: Any) -> None:
    """Evaluate the first copies of output layers, so that memory never holds three of a matrix."""
    for _, module in network.named_modules():
        blocks = module.pop("_blocks", None)
        if blocks is not None:
            mx.eval(blocks)
