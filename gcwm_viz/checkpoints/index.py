"""A checkpoint folder as its headers describe it: which tensors, what shapes, in which file. No weights are read."""

import hashlib
import json
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gcwm_viz.checkpoints.header import TensorInfo, read_header, read_json_object
from gcwm_viz.checkpoints.location import is_remote, location, reached, remote_bytes
from gcwm_viz.checkpoints.model_config import read_config
from gcwm_viz.errors import InputError

ADAPTER_CONFIG = "adapter_config.json"
ADAPTER_WEIGHTS = "adapter_model.safetensors"
PICKLE_SUFFIXES = frozenset({".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle"})
GGUF_SUFFIX = ".gguf"
SAMPLE_BYTES = 4096
_ENTRY = re.compile(r"(?P<tensor>.+)\[(?P<entry>0|[1-9][0-9]{0,8})\]")


@dataclass(frozen=True, eq=False)
class CheckpointIndex:
    """Headers of one checkpoint: ``tensors`` by name, ``config`` from config.json ({} without one),
    ``file_metadata`` by file."""

    root: Path
    tensors: dict[str, TensorInfo]
    config: dict[str, Any]
    file_metadata: dict[Path, dict[str, str]]
    config_file: Path | None = None

    @classmethod
    def open(cls, path: str | Path) -> "CheckpointIndex":
        """Reads the headers of a folder, in transformers' order of preference, or of one safetensors file.

        Raises InputError for a missing folder, one without safetensors, pickle or GGUF weights only, a missing shard,
        a truncated or malformed file, or a tensor that two shards both hold.
        """
        path = reached(location(path))
        try:
            if path.is_file() and path.suffix == ".safetensors":
                return cls.from_files(path.parent, [path])
            if path.is_file() and path.suffix in PICKLE_SUFFIXES:
                raise InputError(_pickle_sentence(path, path.name))
            if path.is_file() and path.suffix == GGUF_SUFFIX:
                raise InputError(_gguf_sentence(path, path.name))
            if not path.is_dir():
                kind = "a file" if path.exists() else "nothing"
                raise InputError(f"{path}: expected a folder with safetensors weights, found {kind}")
            return cls.from_files(path, _weight_files(path))
        except OSError as error:
            raise InputError(f"{path}: cannot read the folder ({error.strerror or error})") from None

    @classmethod
    def from_files(cls, root: Path, files: Iterable[Path], config_name: str = "config.json") -> "CheckpointIndex":
        """The union of ``files``' tensors; InputError when two files hold the same tensor."""
        tensors: dict[str, TensorInfo] = {}
        file_metadata: dict[Path, dict[str, str]] = {}
        for file in files:
            header, file_metadata[file] = read_header(file)
            for name, info in header.items():
                if name in tensors:
                    raise InputError(f"{file}: tensor {name!r} is also in {tensors[name].path.name}, expected it once")
                tensors[name] = info
        if not tensors:
            raise InputError(f"{root}: expected safetensors weights, found files that hold no tensor")
        config_file = root / config_name
        if not config_file.is_file():
            return cls(root, tensors, {}, file_metadata)
        config = (read_config if config_name == "config.json" else read_json_object)(config_file, config_name)
        return cls(root, tensors, config, file_metadata, config_file)

    def holds(self, name: str) -> bool:
        """Whether there is a tensor ``name``, or for ``name[i]`` a stack ``name`` that has an ``i``-th matrix."""
        tensor, entry = split_entry(name)
        info = self.tensors.get(tensor)
        return name in self.tensors or (info is not None and entry is not None and entry < info.shape[0])

    def stored(self, name: str) -> TensorInfo:
        """The tensor ``name``, or for ``name[i]`` the ``i``-th matrix of a stack. Raises KeyError for neither."""
        if name in self.tensors:
            return self.tensors[name]
        tensor, entry = split_entry(name)
        if entry is None:
            raise KeyError(name)
        return self.tensors[tensor].part(entry)

    @property
    def parameters(self) -> int:
        return sum(info.parameters for info in self.tensors.values())

    def fingerprint(self) -> str:
        """sha256 (hex) over names, dtypes, shapes, samples of every tensor's bytes, and the config's bytes.

        Independent of where the folder lies and how it is sharded. Each tensor gives its first, middle and last
        4 KiB: enough to tell trained weights apart without reading gigabytes, not a proof against forgery.
        """
        digest = hashlib.sha256()
        for name, info in sorted(self.tensors.items()):
            digest.update(json.dumps([name, info.dtype, info.shape]).encode())
            digest.update(hashlib.sha256(sample(info)).digest())
        if self.config_file is not None:
            digest.update(self.config_file.read_bytes())
        return digest.hexdigest()


def split_entry(name: str) -> tuple[str, int | None]:
    """A stack's name and the entry of its leading dimension in ``name[i]``; any other name, and None."""
    match = _ENTRY.fullmatch(name)
    return (match["tensor"], int(match["entry"])) if match else (name, None)


def sample(info: TensorInfo) -> bytes:
    """First, middle and last 4 KiB of a tensor's bytes, or all of a small one's. Raises InputError for a file that
    cannot be read."""
    starts, count = [0, (info.nbytes - SAMPLE_BYTES) // 2, info.nbytes - SAMPLE_BYTES], SAMPLE_BYTES
    if info.nbytes <= 3 * SAMPLE_BYTES:
        starts, count = [0], info.nbytes
    try:
        if is_remote(info.path):
            return b"".join(remote_bytes(info.path, info.offset + start, count) for start in starts)
        with info.path.open("rb") as file:
            return b"".join(os.pread(file.fileno(), count, info.offset + start) for start in starts)
    except OSError as error:
        raise InputError(f"{info.path}: cannot read the file ({error.strerror or error})") from None


def has_model(root: Path) -> bool:
    """Whether a folder holds a whole model's weights, which may lie beside a left-over adapter config."""
    return (root / "model.safetensors").is_file() or any(root.glob("*.safetensors.index.json"))


def _weight_files(root: Path) -> list[Path]:
    single = root / "model.safetensors"
    if single.is_file():
        return [single]
    indexes = sorted(root.glob("*.safetensors.index.json"))
    if len(indexes) > 1:
        raise InputError(f"{root}: expected one shard index, found {', '.join(item.name for item in indexes)}")
    if indexes:
        return _shards(indexes[0])
    files = sorted(file for file in root.glob("*.safetensors") if file.is_file() and not file.name.startswith("."))
    if files:
        return files
    pickles = sorted(file.name for file in root.iterdir() if file.suffix in PICKLE_SUFFIXES)
    if pickles:
        raise InputError(_pickle_sentence(root, pickles[0]))
    ggufs = sorted(file.name for file in root.iterdir() if file.suffix == GGUF_SUFFIX)
    if ggufs:
        raise InputError(_gguf_sentence(root, ggufs[0]))
    raise InputError(f"{root}: expected safetensors weights (*.safetensors), found none in this folder")


def _shards(index_file: Path) -> list[Path]:
    weight_map = read_json_object(index_file, "shard index").get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise InputError(f"{index_file}: shard index has no weight_map from tensor to file")
    shards: dict[str, list[str]] = {}
    for name, file in weight_map.items():
        plain = isinstance(file, str) and file.isprintable() and Path(file).name == file
        if not plain or not file.endswith(".safetensors"):
            raise InputError(f"{index_file}: tensor {name!r} is mapped to {file!r}, expected a .safetensors file name")
        shards.setdefault(file, []).append(name)
    for file, names in sorted(shards.items()):
        path = index_file.parent / file
        if not path.is_file():
            raise InputError(
                f"{path}: missing shard, {index_file.name} expects {len(names)} tensors in it ({names[0]}, …)"
            )
        header, _ = read_header(path)
        absent = [name for name in names if name not in header]
        if absent:
            raise InputError(f"{path}: tensor {absent[0]!r} is not in this shard, {index_file.name} expects it there")
    return [index_file.parent / file for file in sorted(shards)]


def _gguf_sentence(path: Path, name: str) -> str:
    return (
        f"{path}: only GGUF weights ({name}), expected safetensors: take the original weights, or dequantise these "
        f"with `gcwm-viz dequantise {path} --out NEW_DIR`"
    )


def _pickle_sentence(path: Path, name: str) -> str:
    if name.startswith("adapter_model"):
        convert = "PeftModel.from_pretrained(base, DIR).save_pretrained(NEW_DIR)"
    else:
        convert = "AutoModelForCausalLM.from_pretrained(DIR).save_pretrained(NEW_DIR)"
    return (
        f"{path}: only pickle weights ({name}), which can run code when opened and are not read; expected safetensors: "
        f"convert them where you trust the file, with {convert}"
    )
