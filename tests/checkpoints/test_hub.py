"""Hub ids through a Hugging Face cache laid out as the library lays it out; no network."""

import shutil
import socket
from pathlib import Path

import huggingface_hub
import pytest

from gcwm_viz.checkpoints.hub import local_folder
from gcwm_viz.checkpoints.index import CheckpointIndex
from gcwm_viz.errors import InputError
from tests.continual.inputs import write_base

REVISION = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache that holds org/tiny, files as links to blobs; nothing else can be reached."""
    root = tmp_path / "hub"
    repo = root / "models--org--tiny"
    snapshot = repo / "snapshots" / REVISION
    snapshot.mkdir(parents=True)
    (repo / "blobs").mkdir()
    (repo / "refs").mkdir()
    (repo / "refs" / "main").write_text(REVISION)
    for place, file in enumerate(sorted(write_base(tmp_path / "base").iterdir())):
        shutil.copy(file, repo / "blobs" / str(place))
        (snapshot / file.name).symlink_to(f"../../blobs/{place}")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(root))

    def unreachable(*_: object) -> None:
        raise OSError("no network in this test")

    monkeypatch.setattr(socket.socket, "connect", unreachable)
    return root


@pytest.mark.parametrize("source", ["org/tiny", "org/tiny@main", f"org/tiny@{REVISION}"])
def test_a_cached_id_is_its_snapshot_and_opens(cache: Path, source: str) -> None:
    folder = local_folder(source, cached_only=True)
    assert folder.name == REVISION
    assert "model.embed_tokens.weight" in CheckpointIndex.open(folder).tensors


@pytest.mark.parametrize("source", ["org/other", "org/tiny@missing"])
def test_what_is_not_cached_is_named_with_a_way_out(cache: Path, source: str) -> None:
    with pytest.raises(InputError, match=r"not in the local cache; fetch it once with `hf download org/"):
        local_folder(source, cached_only=True)


def test_folders_win_and_other_text_is_left_for_the_reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "org" / "tiny").mkdir(parents=True)
    for source in ("org/tiny", "nowhere", "/not/there", "../up", "a/b/c"):
        assert str(local_folder(source)) == source
