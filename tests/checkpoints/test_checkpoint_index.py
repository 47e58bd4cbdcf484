import json
import shutil
from pathlib import Path

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from gcwm_viz.checkpoints.index import CheckpointIndex
from gcwm_viz.checkpoints.model_config import with_floats
from gcwm_viz.checkpoints.reader import read_tensor, row_slices
from gcwm_viz.checkpoints.writer import export_checkpoint
from gcwm_viz.errors import InputError
from tests.checkpoints import tiny


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.save(tiny.model("qwen3"), tmp_path_factory.mktemp("whole"))


@pytest.fixture
def sharded(tmp_path: Path) -> Path:
    return tiny.save(tiny.model("qwen3"), tmp_path / "sharded", max_shard_size="8KB")


def test_open_reads_headers_and_config(whole: Path) -> None:
    index = CheckpointIndex.open(whole)
    assert index.config["model_type"] == "qwen3"
    assert [metadata["format"] for metadata in index.file_metadata.values()] == ["pt"]
    info = index.tensors["model.layers.0.self_attn.k_proj.weight"]
    assert (info.dtype, info.shape, info.nbytes) == ("F32", (8, 16), 512)
    assert index.parameters == sum(tensor.numel() for tensor in tiny.tensors(whole).values())


def test_shards_are_one_checkpoint(whole: Path, sharded: Path) -> None:
    assert len(list(sharded.glob("*.safetensors"))) > 1
    one, many = CheckpointIndex.open(whole), CheckpointIndex.open(sharded)
    assert one.tensors.keys() == many.tensors.keys()
    assert all(torch.equal(read_tensor(one.tensors[name]), read_tensor(many.tensors[name])) for name in one.tensors)


def test_fingerprint_follows_content_not_place(whole: Path, sharded: Path, tmp_path: Path) -> None:
    index = CheckpointIndex.open(whole)
    shutil.copytree(whole, tmp_path / "copy")
    assert CheckpointIndex.open(tmp_path / "copy").fingerprint() == index.fingerprint()
    assert CheckpointIndex.open(sharded).fingerprint() == index.fingerprint()
    content = load_file(whole / "model.safetensors")
    content["model.norm.weight"][3] += 1e-6
    save_file(content, tmp_path / "copy" / "model.safetensors", metadata={"format": "pt"})
    assert CheckpointIndex.open(tmp_path / "copy").fingerprint() != index.fingerprint()


def test_fingerprint_covers_the_config(whole: Path, tmp_path: Path) -> None:
    shutil.copytree(whole, tmp_path / "copy")
    config = json.loads((whole / "config.json").read_text())
    (tmp_path / "copy" / "config.json").write_text(json.dumps({**config, "rms_norm_eps": 1e-3}))
    assert CheckpointIndex.open(tmp_path / "copy").fingerprint() != CheckpointIndex.open(whole).fingerprint()


def test_a_single_file_opens_with_the_config_beside_it(whole: Path) -> None:
    index = CheckpointIndex.open(whole / "model.safetensors")
    assert index.root == whole
    assert index.config["model_type"] == "qwen3"


def test_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere: expected a folder with safetensors weights, found nothing"):
        CheckpointIndex.open(tmp_path / "nowhere")


@pytest.mark.parametrize("name", ["x" * 5000, "a\0b"])
def test_a_path_the_system_cannot_look_up(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match=r"cannot read the folder|found nothing"):
        CheckpointIndex.open(tmp_path / name)


def test_folder_without_safetensors(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(InputError, match=r"expected safetensors weights .* found none"):
        CheckpointIndex.open(tmp_path)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "consolidated.00.pth", "model.pt"])
def test_pickle_weights_are_refused_with_the_way_out(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"\x80\x04")
    with pytest.raises(InputError, match=rf"only pickle weights \({name}\).*save_pretrained") as caught:
        CheckpointIndex.open(tmp_path)
    assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match="only pickle weights"):
        CheckpointIndex.open(tmp_path / name)


def test_missing_shard(sharded: Path) -> None:
    lost = sorted(sharded.glob("*.safetensors"))[1]
    lost.unlink()
    with pytest.raises(InputError, match=rf"{lost.name}: missing shard, model.safetensors.index.json expects"):
        CheckpointIndex.open(sharded)


def test_truncated_shard(sharded: Path) -> None:
    file = sorted(sharded.glob("*.safetensors"))[0]
    size = file.stat().st_size
    with file.open("r+b") as handle:
        handle.truncate(size - 40)
    with pytest.raises(
        InputError, match=rf"{file.name}: truncated file, its header says {size} bytes, file has {size - 40}"
    ):
        CheckpointIndex.open(sharded)


def test_duplicate_names_across_files(tmp_path: Path) -> None:
    tiny.store(tmp_path, {"a.weight": torch.zeros(2)}, "one.safetensors")
    tiny.store(tmp_path, {"a.weight": torch.zeros(2)}, "two.safetensors")
    with pytest.raises(InputError, match=r"two.safetensors: tensor 'a.weight' is also in one.safetensors"):
        CheckpointIndex.open(tmp_path)


def test_index_that_names_a_tensor_the_shard_lacks(sharded: Path) -> None:
    file = sharded / "model.safetensors.index.json"
    value = json.loads(file.read_text())
    value["weight_map"]["ghost.weight"] = sorted(set(value["weight_map"].values()))[0]
    file.write_text(json.dumps(value))
    with pytest.raises(InputError, match=r"tensor 'ghost.weight' is not in this shard"):
        CheckpointIndex.open(sharded)


@pytest.mark.parametrize("place", ["../outside.safetensors", "/etc/passwd", "sub/x.safetensors", 7, "x.bin"])
def test_index_cannot_lead_out_of_the_folder(sharded: Path, place: str | int) -> None:
    file = sharded / "model.safetensors.index.json"
    value = json.loads(file.read_text())
    value["weight_map"]["model.norm.weight"] = place
    file.write_text(json.dumps(value))
    with pytest.raises(InputError, match=r"expected a .safetensors file name"):
        CheckpointIndex.open(sharded)


@pytest.mark.parametrize("text", ["{", "[]", '{"weight_map": 3}', "{}"])
def test_malformed_index(sharded: Path, text: str) -> None:
    (sharded / "model.safetensors.index.json").write_text(text)
    with pytest.raises(InputError, match="shard index"):
        CheckpointIndex.open(sharded)


def test_malformed_config(whole: Path, tmp_path: Path) -> None:
    shutil.copytree(whole, tmp_path / "copy")
    (tmp_path / "copy" / "config.json").write_text('{"model_type": "a", "model_type": "b"}')
    with pytest.raises(InputError, match=r"config.json names 'model_type' twice"):
        CheckpointIndex.open(tmp_path / "copy")


@pytest.mark.parametrize("spelling", ["-Infinity", '{"__float__": "-Infinity"}'])
def test_constants_in_a_config(whole: Path, tmp_path: Path, spelling: str) -> None:
    """transformers loads both spellings, and both are exported so that it still does; a header may hold neither."""
    shutil.copytree(whole, tmp_path / "copy")
    config = (whole / "config.json").read_text().replace("{", f'{{"limit": [0.5, {spelling}], ', 1)
    (tmp_path / "copy" / "config.json").write_text(config)
    index = CheckpointIndex.open(tmp_path / "copy")
    assert index.config["limit"] == [0.5, {"__float__": "-Infinity"}]
    assert with_floats(index.config)["limit"] == [0.5, float("-inf")]
    for dtype in (None, torch.float16):
        out = export_checkpoint(index, lambda name: None, tmp_path / str(dtype), model_card="", dtype=dtype)
        assert transformers.AutoConfig.from_pretrained(out).limit == [0.5, float("-inf")]
    (tmp_path / "copy" / "model.safetensors.index.json").write_text('{"weight_map": {"a": NaN}}')
    (tmp_path / "copy" / "model.safetensors").unlink()
    with pytest.raises(InputError, match=r"shard index is not valid JSON \(the constant NaN\)"):
        CheckpointIndex.open(tmp_path / "copy")


@pytest.mark.parametrize(("value", "kind"), [(float("nan"), "NaN"), (float("inf"), "an infinite value")])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_non_finite_tensor_is_named_with_its_place(tmp_path: Path, value: float, kind: str, dtype: torch.dtype) -> None:
    content = torch.zeros(3, 4, dtype=dtype)
    content[1, 2] = value
    index = CheckpointIndex.open(tiny.store(tmp_path, {"layers.0.w.weight": content}))
    with pytest.raises(InputError, match=rf"model.safetensors: tensor 'layers.0.w.weight' holds {kind} at \(1, 2\)"):
        read_tensor(index.tensors["layers.0.w.weight"])
    assert read_tensor(index.tensors["layers.0.w.weight"], slice(2, 3)).shape == (1, 4)


def test_rows_cover_the_tensor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gcwm_viz.checkpoints.reader.SLICE_ELEMENTS", 10)
    content = torch.randn(7, 4)
    info = CheckpointIndex.open(tiny.store(tmp_path, {"w": content})).tensors["w"]
    slices = row_slices(info)
    assert len(slices) == 4
    assert torch.equal(torch.cat([read_tensor(info, rows) for rows in slices]), content)


def test_a_file_that_changed_after_its_header_was_read(tmp_path: Path) -> None:
    index = CheckpointIndex.open(tiny.store(tmp_path, {"w": torch.zeros(2)}))
    tiny.store(tmp_path, {"w": torch.zeros(3)})
    with pytest.raises(InputError, match="changed while in use"):
        read_tensor(index.tensors["w"])
    (tmp_path / "model.safetensors").write_bytes(b"gone")
    with pytest.raises(InputError, match="cannot read tensor 'w'"):
        read_tensor(index.tensors["w"])


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="the system does not list a process's mappings")
def test_reading_keeps_no_mapping_of_the_file(tmp_path: Path) -> None:
    """What is read owns its memory, so that a long run's resident memory does not grow by the files it has read."""
    index = CheckpointIndex.open(tiny.store(tmp_path, {"w": torch.ones(64, 64)}))
    kept = read_tensor(index.tensors["w"])
    assert str(tmp_path) not in Path("/proc/self/maps").read_text()
    assert kept.sum() == 4096
