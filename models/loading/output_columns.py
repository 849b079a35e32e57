"""The output layer's weights as a CPU's BLAS reads them fastest: ``[in, out]``, not ``[out, in]``.

For a token its matrix, the largest of a model, is read once. Kept as it is multiplied that takes
two thirds of the time, with the same bits; smaller matrices gain nothing. An embedding that also is
the output layer is kept once, in that form: a token's row is then a column of it.
"""

from __future__ import annotations

from typing import Any

from blendin_mlx.backend.mlx import mx, nn

from .dequantize import dense_rows

_BLOCK = 1024  # rows that a core's cache holds while they are dequantized and turned


class Columns:
    """The transpose ``[m, n]`` of a layer's weights, which are not read before :meth:`read`.

    A copy of the network shares it, as it shares the network's arrays.

    Args:
        layer: the layer, dense or quantized, with lazy weights.
    """

    def __init__(self, layer: Any) -> None:
        self._layer = layer
        self.array = mx.zeros(self.now.shape)

    def __deepcopy__(self, known: Any) -> Columns:
        return self

    @property
    def now(self) -> mx.array:
        """The transpose, lazily where it is not read yet."""
        return self.array if self._layer is None else dense_rows(self._layer).T

    def read(self) -> None:
        """Fill the array, block by block: a copy in one go misses the cache at each number."""
        if self._layer is None:
            return
        for start in range(0, self.array.shape[1], _BLOCK):
            block = slice(start, start + _BLOCK)
            self.array[:, block] = dense_rows(self._layer, block).T
            mx.eval(self.array)
        self._layer = None


class ColumnLinear(nn.Linear):  # type: ignore[misc] # mlx has no types
    """Linear layer with its weights as ``columns`` ``[in, out]``."""

    def __init__(self, layer: Any) -> None:
        nn.Module.__init__(self)
        self.kept = Columns(layer)
        self.columns = self.kept.array
        if "bias" in layer:
            self.bias = layer.bias

    @property
    def weight(self) -> mx.array:
        """The weights ``[out, in]``."""
        return self.kept.now.T

    def __call__(self, x: mx.array) -> mx.array:
        """Return ``[..., out]``."""
        y = x @ self.kept.now
        return y + self.bias if "bias" in self else y


class ColumnEmbedding(nn.Embedding):  # type: ignore[misc]
    """Embedding and output layer with their one weight as ``columns`` ``[width, tokens]``."""

    def __init__(self, layer: Any) -> None:
        nn.Module.__init__(self)
        self.kept = Columns(layer)
        self.columns = self.kept.array

    @property
    def weight(self) -> mx.array:
        """The embeddings ``[tokens, width]``."""
        return self.kept.now.T

    def __call__(self, ids: mx.array) -> mx.array:
        """Return ``[..., width]``."""
        return mx.moveaxis(mx.take(self.kept.now, ids, axis=1), 0, -1)

    def as_linear(self, x: mx.array) -> mx.array:
        """Return ``[..., tokens]``."""
        return x @ self.kept.now


_FORMS = {
    nn.Linear: ColumnLinear,
    nn.QuantizedLinear: ColumnLinear,
    nn.Embedding: ColumnEmbedding,
    nn.QuantizedEmbedding: ColumnEmbedding,
}


def keep_output_columns(network: Any) -> None:
    """Replace the output layer of a network, lazily: its ``lm_head``, else its embedding."""
    modules = [module for _, module in network.named_modules()]
    name = "lm_head" if any("lm_head" in module for module in modules) else "embed_tokens"
    for module in modules:
        layer = module.get(name)
        if form := _FORMS.get(type(layer)):
            setattr(module, name, form(layer))


def read_output_columns(network: Any) -> None:
    """Read the weights of output layers, so that memory never holds a matrix twice."""
    for _, module in network.named_modules():
        if isinstance(module, ColumnLinear | ColumnEmbedding):
            module.kept.read()
