"""What ``push`` uploads, and that it uploads nothing before it is told to; a stand-in for the hub keeps the files."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import torch
import yaml
from safetensors.torch import load_file

from gcwm_viz.cli import main
from gcwm_viz.continual.store import RunStore
from gcwm_viz.export.checkpoint import export_step
from tests.export import runs


class Hub:
    """Calls of the client that reach it, and the files of the last upload."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.files: dict[str, bytes] = {}

    def create_repo(self, repo: str, **options: Any) -> None:
        self.calls.append(("create_repo", {"repo": repo} | options))

    def upload_folder(self, *, folder_path: Path, **options: Any) -> str:
        self.calls.append(("upload_folder", options))
        self.files = {file.name: file.read_bytes() for file in folder_path.iterdir()}
        return f"https://hub/{options['repo_id']}/commit/1"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Hub:
    hub = Hub()
    monkeypatch.setattr(huggingface_hub, "HfApi", lambda **options: hub)
    return hub


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunStore:
    root = tmp_path_factory.mktemp("push")
    index = runs.base(root, "llama")
    return runs.finished(index, runs.experts(index, root, torch.float32), root / "run")


@pytest.fixture
def push(run: RunStore, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str]]:
    def pushed(*options: str) -> tuple[int, str]:
        code = main(["push", str(run.path), "--repo", "me/merged", *options])
        said = capsys.readouterr()
        return code, said.out + said.err

    return pushed


def test_a_rehearsal_uploads_nothing_and_shows_everything(
    push: Callable[..., tuple[int, str]], hub: Hub, run: RunStore
) -> None:
    code, said = push("--step", "2")
    assert code == 0
    assert hub.calls == []
    assert "nothing was uploaded" in said
    assert "MB  model.safetensors" in said
    assert "base_model_relation: merge" in said
    assert not [file for file in run.path.parent.iterdir() if file.name.startswith(".push-")]


def test_it_uploads_the_export(push: Callable[..., tuple[int, str]], hub: Hub, run: RunStore, tmp_path: Path) -> None:
    assert push("--step", "1", "--yes")[0] == 0
    (created, first), (uploaded, second) = hub.calls
    assert (created, first) == ("create_repo", {"repo": "me/merged", "private": True, "exist_ok": True})
    assert (uploaded, second["repo_id"]) == ("upload_folder", "me/merged")
    (tmp_path / "uploaded").write_bytes(hub.files["model.safetensors"])
    exported = load_file(export_step(run, 1, tmp_path / "own") / "model.safetensors")
    assert {name: tensor.tolist() for name, tensor in load_file(tmp_path / "uploaded").items()} == {
        name: tensor.tolist() for name, tensor in exported.items()
    }


def test_an_adapter_is_named_as_one(push: Callable[..., tuple[int, str]], hub: Hub) -> None:
    assert push("--as-adapter", "--rank", "2", "--yes", "--public")[0] == 0
    assert hub.calls[0][1]["private"] is False
    front = yaml.safe_load(hub.files["README.md"].decode().split("---")[1])
    assert front["base_model_relation"] == "adapter"


@pytest.mark.parametrize("repo", ["merged", "me/merged@main", "me/../you", "https://hub/me/merged"])
def test_a_wrong_name_is_refused_before_anything(
    run: RunStore, hub: Hub, capsys: pytest.CaptureFixture[str], repo: str
) -> None:
    assert main(["push", str(run.path), "--repo", repo, "--yes"]) == 2
    assert "expected ORG/NAME" in capsys.readouterr().err
    assert hub.calls == []


def test_a_refusal_of_the_hub_is_one_sentence(
    push: Callable[..., tuple[int, str]], hub: Hub, run: RunStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise huggingface_hub.errors.LocalTokenNotFoundError("Token is required, but no token found.")

    monkeypatch.setattr(hub, "create_repo", refuse)
    code, said = push("--yes")
    assert code == 2
    assert "me/merged: the hub did not take the model (Token is required, but no token found.)" in said
    assert not [file for file in run.path.parent.iterdir() if file.name.startswith(".push-")]
