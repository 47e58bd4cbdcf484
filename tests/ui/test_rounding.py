"""How much of a half-precision update is rounding, by matrix, from a run to its map on the overview."""

import json
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from streamlit.testing.v1 import AppTest

from gcwm_viz import open_run
from gcwm_viz.cli import main
from tests.continual.inputs import write_base, write_updates
from tests.ui.test_pages import charts, words


def test_rounding_is_mapped_where_an_update_was_rounded(open_page: Callable[..., AppTest], tmp_path: Path) -> None:
    base = write_base(tmp_path / "base")
    (_, exact), (_, rounded) = write_updates(tmp_path / "updates", "ab")
    weights = load_file(base / "model.safetensors")
    change = load_file(rounded / "update.safetensors")
    (rounded / "update.safetensors").unlink()
    checkpoint = {name: (w + change.get(name, 0)).to(torch.bfloat16) for name, w in weights.items()}
    save_file(checkpoint, rounded / "model.safetensors")
    (rounded / "config.json").write_text(json.dumps({"model_type": "qwen3", "num_hidden_layers": 2}))
    arguments = ["--base", str(base), "--update", f"exact={exact}", "--update", f"rounded={rounded}"]
    assert main(["run", *arguments, "--workers", "1", "--out", str(tmp_path / "runs" / "one")]) == 0
    table = open_run(tmp_path / "runs" / "one").tables["rounding"]
    assert (len(table), set(table["update"]), set(table["step"])) == (8, {"rounded"}, {2})
    # bfloat16 keeps 8 bits of a weight, and these updates are about as large as the weights.
    assert table["rounding"].between(1e-4, 1e-1).all()
    app = open_page("app.py", root=tmp_path / "runs", run="one")
    assert not app.exception
    assert "Rounding of half-precision updates, by matrix" in [box.label for box in app.expander]
    assert any("Rounding of the update" in str(chart) for chart in charts(app))
    assert "0 = exact" in words(app)
