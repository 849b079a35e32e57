"""Dequantize weights on a CPU: what mlx-lm does, two to three times as fast.

``mx.dequantize`` computes element by element there. The same formula as operations on whole arrays
gives the same bits.
"""

from __future__ import annotations

from typing import Any

from blendin_mlx.backend.mlx import mx

_KNOWN_BITS = (4, 8)


def dequantize_network(network: Any) -> None:
    """Replace the quantized layers of a network by dequantized ones, lazily."""
    from mlx_lm.utils import dequantize_model

    layers = {name: layer for name, layer in network.named_modules() if _is_known(layer)}
    dequantize_model(network)
    for name, layer in network.named_modules():
        if name in layers:
            layer.weight = dequantized(layers[name])


def _is_known(layer: Any) -> bool:
    """Return whether :func:`dequantized` knows the layer's form; mlx-lm knows the others, too."""
    affine = getattr(layer, "mode", None) == "affine"
    return affine and layer.bits in _KNOWN_BITS and getattr(layer, "biases", None) is not None


def dequantized(layer: Any) -> mx.array:
    """Return the weights ``[..., n]`` of a layer quantized to 4 or 8 bits, lazily.

    Each is ``q · scale + bias`` with scale and bias of its group.
    """
    packed: mx.array = layer.weight.view(mx.uint8)  # the lowest bits first
    if layer.bits == 4:
        packed = mx.stack([packed & 15, packed >> 4], axis=-1)
    scales, biases = layer.scales[..., None], layer.biases[..., None]
    grouped = packed.reshape(*layer.scales.shape, layer.group_size).astype(scales.dtype)
    whole: mx.array = (grouped * scales + biases).reshape(*layer.weight.shape[:-1], -1)
    return whole
