"""Reference numbers computed once in float64, and how to find them.

``manifest.json`` holds settings and scalars per case, ``NAME.safetensors`` the tensors.
"""

import json
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from torch import Tensor

from gcwm_viz import GCWMConfig

GOLDEN_DIR = Path(__file__).parent
MANIFEST: dict[str, dict[str, Any]] = json.loads((GOLDEN_DIR / "manifest.json").read_text())


def tensors(name: str) -> dict[str, Tensor]:
    return load_file(GOLDEN_DIR / f"{name}.safetensors")


def config(name: str, **changes: Any) -> GCWMConfig:
    """The settings a case was computed with."""
    settings = dict(MANIFEST[name]["settings"])
    settings["alpha_min"], settings["alpha_max"] = settings.pop("amin"), settings.pop("amax")
    return GCWMConfig(lambda_mode="absolute", solver="adam", **settings, **changes)
