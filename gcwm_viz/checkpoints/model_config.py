"""config.json of a model. It may contain infinities and NaN, which JSON does not have and transformers loads.

transformers reads them as Python's constants (``Infinity``) and, since version 5, writes them as
``{"__float__": "Infinity"}``. Only the latter is JSON, so here it stands for both.
"""

from pathlib import Path
from typing import Any

from gcwm_viz.checkpoints.header import read_json_object

_TAG = "__float__"
_CONSTANTS = frozenset({"Infinity", "-Infinity", "NaN"})


def read_config(path: Path, what: str = "config.json") -> dict[str, Any]:
    """The JSON object in ``path``, constants as tags. Raises InputError as ``read_json_object`` does."""
    return read_json_object(path, what, constant=lambda text: {_TAG: text})


def with_floats(value: Any) -> Any:
    """``value`` with every tag replaced by its float, as transformers' configuration classes expect."""
    if isinstance(value, dict):
        tag = value.get(_TAG) if len(value) == 1 else None
        if isinstance(tag, str) and tag in _CONSTANTS:
            return float(tag)
        return {key: with_floats(item) for key, item in value.items()}
    return [with_floats(item) for item in value] if isinstance(value, list) else value
