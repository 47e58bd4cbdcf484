"""Compare and Explain on a generated study, on one of a single seed, and without any."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from streamlit.testing.v1 import AppTest

from gcwm_viz.ui import study
from tests.factories_study import write_study

COMPARE, EXPLAIN = "pages/10_Compare.py", "pages/11_Explain.py"
CHARTS = {COMPARE: 5, EXPLAIN: 4}


def charts(app: AppTest) -> list[dict[str, Any]]:
    return [json.loads(element.proto.spec) for element in app.get("plotly_chart")]


def words(app: AppTest) -> str:
    return "\n".join(str(element.value) for kind in (app.info, app.text, app.caption) for element in kind)


@pytest.mark.parametrize("seeds", [1, 3])
@pytest.mark.parametrize("page", CHARTS)
def test_page_draws_its_charts(open_page: Callable[..., AppTest], tmp_path: Path, page: str, seeds: int) -> None:
    write_study(tmp_path, seeds=seeds)
    app = open_page(page, root=tmp_path)
    assert not app.exception
    assert len(charts(app)) == CHARTS[page]
    assert all(element.proto.alt for element in app.get("plotly_chart"))
    assert f"Seeds: {seeds}." in words(app)


@pytest.mark.parametrize("page", CHARTS)
@pytest.mark.parametrize("target", study.TARGETS)
def test_every_target_has_its_page(open_page: Callable[..., AppTest], tmp_path: Path, page: str, target: str) -> None:
    write_study(tmp_path, seeds=2)
    app = open_page(page, root=tmp_path, target=target)
    assert not app.exception
    assert app.selectbox(key="target").value == target
    assert len(charts(app)) == CHARTS[page]


@pytest.mark.parametrize("page", CHARTS)
def test_without_a_study_it_says_how_to_get_one(
    open_page: Callable[..., AppTest], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, page: str
) -> None:
    monkeypatch.setattr(study, "SHIPPED", tmp_path / "none")
    app = open_page(page, root=tmp_path)
    assert not app.exception
    assert "lab study" in words(app)


def test_compare_ranks_the_methods_beside_the_experts(open_page: Callable[..., AppTest], tmp_path: Path) -> None:
    write_study(tmp_path)
    first = charts(open_page(COMPARE, root=tmp_path))[0]
    assert first["layout"]["yaxis"]["ticktext"] == ["gcwm", "wudi", "seq-sft"]
    assert "experts 0.960" in json.dumps(first)
    lost = charts(open_page(COMPARE, root=tmp_path, target="forgetting"))[0]
    assert "experts" not in json.dumps(lost["layout"])


def test_compare_shows_every_task_below_its_expert_and_what_a_method_keeps(
    open_page: Callable[..., AppTest], tmp_path: Path
) -> None:
    write_study(tmp_path)
    app = open_page(COMPARE, root=tmp_path)
    tasks = charts(app)[2]
    assert tasks["layout"]["yaxis"]["ticktext"] == ["experts", "gcwm", "wudi", "seq-sft"]
    assert tasks["data"][1]["text"][:6] == ["0.960", "0.960", "0.960", "0.500", "0.600", "0.700"]
    keeps = app.dataframe[0].value.set_index("method")["keeps"]
    assert keeps["gcwm"] == "every update (at the end 3)"
    assert keeps["seq-sft"] == "nothing"


def test_compare_asks_what_single_parts_are_worth(open_page: Callable[..., AppTest], tmp_path: Path) -> None:
    write_study(tmp_path)
    app = open_page(COMPARE, root=tmp_path)
    assert charts(app)[4]["layout"]["yaxis"]["ticktext"] == ["off", "conflict"]
    app.selectbox(key="question").set_value("ridge").run()
    assert charts(app)[4]["layout"]["yaxis"]["ticktext"] == ["ρ 0", "ρ 10"]


def test_explain_labels_the_published_values_and_gives_reasons(
    open_page: Callable[..., AppTest], tmp_path: Path
) -> None:
    write_study(tmp_path)
    app = open_page(EXPLAIN, root=tmp_path)
    assert "published" in json.dumps(charts(app)[0]["data"])
    assert "Update norm: update_norm is constant" in words(app)
    other = open_page(EXPLAIN, root=tmp_path, target="all tasks", of="gcwm")
    assert not other.exception
    assert "published" not in json.dumps(charts(other)[0]["data"])


def test_merge_methods_and_their_variants_see_no_data() -> None:
    assert study.data_free(pd.Series(["gcwm-no-gate", "ties", "seq-sft", "ewc"])) == ["gcwm-no-gate", "ties"]
