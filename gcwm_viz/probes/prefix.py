"""Keys and values of what several rows begin with, such as the system prompt of a chat template: computed once."""

from typing import Any

from torch import Tensor


def keys_and_values(model: Any, prefix_1l: Tensor, rows: int, **options: Any) -> Any:
    """The cache of ``model`` after a prefix (1, l), for this many rows; gradients go through it.

    None where a layer holds more or less than all keys and values (a recurrent state, a window): rows cannot share
    that.
    """
    from transformers.cache_utils import DynamicCache, DynamicLayer

    cache = getattr(model(input_ids=prefix_1l, use_cache=True, **options), "past_key_values", None)
    if type(cache) is not DynamicCache or not cache.layers:
        return None
    length, layers = prefix_1l.shape[1], list[Any](cache.layers)
    if any(type(layer) is not DynamicLayer or layer.get_seq_length() != length for layer in layers):
        return None
    return DynamicCache([tuple(x.expand(rows, -1, -1, -1) for x in (layer.keys, layer.values)) for layer in layers])
