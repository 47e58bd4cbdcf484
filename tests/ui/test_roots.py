"""Which paths the app may use; of what lies outside it asks the file system nothing."""

from pathlib import Path

import pytest

from gcwm_viz.errors import InputError
from gcwm_viz.ui.plan_form import _input
from gcwm_viz.ui.roots import within


@pytest.fixture
def roots(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    for name in ("inside/model", "inside/lora", "inside/a+b", "outside/secret"):
        (tmp_path / name).mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "inside")
    return [(tmp_path / "inside").resolve()]


def test_a_model_and_an_adapter_must_both_lie_inside(roots: list[Path], tmp_path: Path) -> None:
    model, lora, secret = (tmp_path / name for name in ("inside/model", "inside/lora", "outside/secret"))
    assert within(f"{model}+{lora}", roots) == Path(f"{model.resolve()}+{lora.resolve()}")
    assert within("model+lora", roots) == Path(f"{model.resolve()}+{lora.resolve()}")
    assert within(tmp_path / "inside" / "a+b", roots).name == "a+b"
    for text in (f"{model}+{secret}", f"{secret}+{lora}", f"{secret}+{secret}", f"{model}+{tmp_path}/nowhere"):
        with pytest.raises(InputError, match="lies outside the folders that this app may use, or is not there"):
            within(text, roots)


@pytest.mark.parametrize("text", ["{out}", "{out}+{out}", "{out}/nothing", "{out}+{out}/nothing", "{model}+{out}"])
def test_of_what_lies_outside_nothing_is_asked(
    roots: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    asked: list[Path] = []
    genuine = Path.exists

    def exists(path: Path) -> bool:
        asked.append(path)
        return genuine(path)

    monkeypatch.setattr(Path, "exists", exists)
    text = text.format(out=tmp_path / "outside" / "secret", model=tmp_path / "inside" / "model")
    with pytest.raises(InputError, match="lies outside"):
        _input(text, roots)
    assert all(path.is_relative_to(roots[0]) for path in asked)


def test_a_name_that_no_file_system_takes_is_told_in_a_sentence(roots: list[Path]) -> None:
    with pytest.raises(InputError):
        _input("a" * 300 + "+b", roots)
    with pytest.raises(InputError, match="too long"):
        _input("a" * 5000, roots)
