"""Single rows of an embedding that an adapter trained (PEFT's ``trainable_token_indices``): the rows themselves, not
their change."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from gcwm_viz.checkpoints.header import TensorInfo
from gcwm_viz.checkpoints.reader import read_tensor
from gcwm_viz.errors import InputError


@dataclass(frozen=True)
class TokenRows:
    """``info``: new values (k, d) of the rows ``indices`` of an embedding."""

    info: TensorInfo
    indices: tuple[int, ...]

    def changes(self, embedding: TensorInfo) -> Iterator[Tensor]:
        """New minus old values of one row after the other, float64. Raises InputError for rows that ``embedding``, of
        shape (vocabulary, d), does not have."""
        if (
            len(embedding.shape) != 2
            or max(self.indices) >= embedding.shape[0]
            or self.info.shape[1:] != embedding.shape[1:]
        ):
            raise InputError(
                f"{self.info.path}: tensor {self.info.name!r} has {self.info.shape} values for rows up to "
                f"{max(self.indices)}, the base's {embedding.name!r} has shape {embedding.shape}"
            )
        for new, index in zip(read_tensor(self.info).double(), self.indices, strict=True):
            yield new - read_tensor(embedding, slice(index, index + 1))[0].double()


def token_rows(module: str, info: TensorInfo, config: dict[str, Any], file: Path) -> TokenRows:
    """The rows of ``module``, indices from the adapter's config: a list, or lists by trailing part of a module's name.

    Raises InputError where these are not as many distinct row numbers as the tensor has rows.
    """
    listed = config.get("trainable_token_indices")
    if isinstance(listed, dict):
        listed = next((indices for name, indices in listed.items() if f".{module}".endswith(f".{name}")), None)
    listed = listed if isinstance(listed, list) else []
    rows = [index for index in listed if type(index) is int and index >= 0]
    if not (info.is_floating and len(info.shape) == 2 and 0 < info.shape[0] == len(set(rows)) == len(listed)):
        raise InputError(
            f"{info.path}: tensor {info.name!r} of dtype {info.dtype} and shape {info.shape} holds rows of {module!r}, "
            f"expected as many distinct trainable_token_indices in {file.name}"
        )
    return TokenRows(info, tuple(rows))
