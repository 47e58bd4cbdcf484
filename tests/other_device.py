"""A second device where there is none: tensors that say they are on ``cuda:0`` and do not mix with the CPU's.

They compute on the CPU. What mixes devices raises, as it would on a GPU; streams, memory and kernels are not
imitated.
"""

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

CUDA = torch.device("cuda:0")
CROSSING = {"copy_", "__setitem__", "__getitem__", "to", "cpu", "type_as", "__get__", "__repr__"}
"""Functions that may see tensors of both devices."""


class There(Tensor):
    """A tensor of the other device."""

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        return CUDA

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _call(func, args, kwargs or {})


class TwoDevices(TorchFunctionMode):
    """Inside this block tensors can be made on ``cuda:0``."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _call(func, args, kwargs or {})


def there(x: Tensor) -> Tensor:
    return x.as_subclass(There)


class NoStream:
    """In place of a stream: all is done in order anyway."""

    def __init__(self, *_: object) -> None: ...

    def wait_stream(self, stream: object) -> None: ...

    def synchronize(self) -> None: ...


def imitate_streams(monkeypatch: Any) -> None:
    for name in ("Stream", "current_stream", "default_stream"):
        monkeypatch.setattr(torch.cuda, name, NoStream)
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: nullcontext())
    monkeypatch.setattr(Tensor, "record_stream", lambda self, stream: None)


def _here(x: Any) -> Any:
    return x.as_subclass(Tensor) if isinstance(x, There) else x


def _call(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    name = getattr(func, "__name__", str(func))
    with torch._C.DisableTorchFunction():
        tensors = list(_tensors((args, kwargs)))
        far = [x for x in tensors if isinstance(x, There)]
        near = [x for x in tensors if not isinstance(x, There) and x.ndim > 0]
        if far and (name == "numpy" or (near and name not in CROSSING)):
            raise RuntimeError(f"{name}: expected tensors of one device, found shapes {[x.shape for x in tensors]}")
        is_there = bool(far)
        kwargs = dict(kwargs)
        kwargs.pop("pin_memory", None)
        if name in ("to", "copy_"):
            kwargs.pop("non_blocking", None)
        if name == "cpu":
            is_there = False
        elif name == "to":
            args, is_there = _moved(args, kwargs)
        elif kwargs.get("device") is not None:
            is_there = torch.device(kwargs["device"]).type == "cuda"
        elif name == "__getitem__" or (name.endswith("_") and not name.endswith("__")):
            is_there = isinstance(args[0], There)
        if kwargs.get("device") is not None:
            kwargs["device"] = torch.device("cpu")
        args, kwargs = _each(_here, args), _each(_here, kwargs)
        if name == "pin_memory":
            result = args[0].clone()
        elif name == "mm" and kwargs.pop("out_dtype", None) is not None:
            result = args[0].float() @ args[1].float()
        else:
            result = func(*args, **kwargs)

        return _each(there if is_there else _here, result)


def _tensors(value: Any) -> Iterator[Tensor]:
    """Those of nested tuples, lists and mappings."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, tuple | list | dict):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _tensors(part)


def _each(change: Callable[[Tensor], Tensor], value: Any) -> Any:
    """``value`` with ``change`` done to its tensors. PyTorch's own tree_map takes as long as all else here together."""
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, dict):
        return {name: _each(change, part) for name, part in value.items()}
    if isinstance(value, tuple | list):
        parts = [_each(change, part) for part in value]
        if hasattr(value, "_fields"):  # a named tuple
            return type(value)(*parts)
        return type(value)(parts)
    return value


def _moved(args: Any, kwargs: dict[str, Any]) -> tuple[Any, bool]:
    """Arguments of ``to`` with the CPU as their device, and whether the result is on the other one."""
    target = kwargs.get("device")
    rest = list(args[1:])
    for place, value in enumerate(rest):
        if isinstance(value, Tensor):
            target = value.device
        elif isinstance(value, str | torch.device):
            target, rest[place] = value, torch.device("cpu")
    before = isinstance(args[0], There)
    is_there = before if target is None else torch.device(target).type == "cuda"
    if is_there != before:
        kwargs["copy"] = True
    return (args[0], *rest), is_there
