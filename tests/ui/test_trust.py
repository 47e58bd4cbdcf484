"""The card "How trustworthy is this" says what the benchmark found, and says so where that is nothing."""

import json
from typing import Any

import numpy as np
import pandas as pd
import pytest
from streamlit.testing.v1 import AppTest

from gcwm_viz.decide.benchmark.report import NEW_REGIMES, NEW_SEEDS, OTHER_MODEL
from gcwm_viz.decide.benchmark.shipped import COLUMNS
from gcwm_viz.errors import InputError
from gcwm_viz.ui import trust

Tables = dict[str, pd.DataFrame]


def tables(**auc: tuple[float, float, float]) -> Tables:
    """Of the method wudi: the forecast from labels in three settings, with these AUCs in place of a good one."""
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in COLUMNS}
    for setting in (NEW_SEEDS, NEW_REGIMES, OTHER_MODEL):
        about = {"method": "wudi", "setting": setting}
        value, low, high = auc.get(setting.split()[-1], (0.9, 0.85, 0.95))
        counts = {"n": 200, "harmful": 42, "rho": 0.6, "rho_low": 0.5, "rho_high": 0.7, "partial": 0.55}
        row = {"predictor": "forecast, labels", "auc": value, "auc_low": low, "auc_high": high}
        found["validation"].append(counts | row | about)
        if setting != NEW_REGIMES:
            row = {"predictor": "interference", "auc": 0.68, "auc_low": 0.6, "auc_high": 0.78}
            found["validation"].append(counts | row | about)
            row = {"predictor": "relative_norm", "auc": np.nan, "auc_low": np.nan, "auc_high": np.nan}
            found["validation"].append(counts | row | about | {"partial": np.nan, "rho": 0.04})
        found["reliability"].append({"needs": "labels", "forecast": 0.2, "observed": 0.25, "n": 8, "bin": 1} | about)
        found["coverage"].append(
            {"needs": "labels", "covered": 0.946, "width": 0.1, "error": 0.02, "bias": 0.0, "n": 200} | about
        )
        found["settled"].append({"pools": 40, "scored": 20, "difference": 0.0, "low": 0.0, "high": 0.0} | about)
        for choice, right, n in (("hold", 0.75, 16), ("integrate", 0.9, 100)):
            found["verdicts"].append({"needs": "labels", "choice": choice, "right": right, "n": n} | about)
        if setting != OTHER_MODEL:
            for policy, mean, share in (("integrate all", 0.1, 1.0), ("forecast, labels", 0.0125, 0.125)):
                row = {"policy": policy, "regret": mean, "low": mean / 2, "high": 2 * mean, "share": share}
                found["regret"].append(row | {"pools": 40, "cost": 0} | about)
    return {name: pd.DataFrame(rows) for name, rows in found.items()}


def page() -> None:
    import streamlit as st

    from gcwm_viz.ui import trust

    trust.card(st.session_state["method"], st.session_state["needs"])


def shown(monkeypatch: pytest.MonkeyPatch, found: Tables, method: str = "wudi", needs: str = "labels") -> AppTest:
    monkeypatch.setattr(trust, "read_results", lambda: found)
    app = AppTest.from_function(page, default_timeout=30)
    app.session_state["method"], app.session_state["needs"] = method, needs
    app.run()
    assert not app.exception
    return app


def words(app: AppTest) -> str:
    return "\n".join(str(element.value) for kind in (app.markdown, app.warning, app.info) for element in kind)


def titles(app: AppTest) -> list[str]:
    specs = [json.loads(chart.proto.spec) for chart in app.get("plotly_chart")]
    return [spec["layout"]["title"]["text"] for spec in specs]


def test_the_card_says_how_the_forecast_did(monkeypatch: pytest.MonkeyPatch) -> None:
    app = shown(monkeypatch, tables())
    said = words(app)
    assert "seeds and kinds of bad updates that it was not fitted on" in said
    assert "AUC for harm is 0.90 [0.85, 0.95]" in said
    assert "42 of 200 updates did harm" in said
    assert "95 % of its 95 % intervals held" in said
    assert "integrate 90 % of 100, hold 75 % of 16" in said
    assert "0.013 [0.006, 0.025] less than the best plan" in said
    assert "12 % of what integrating all misses" in said
    assert "integrate all 0.100 [0.050, 0.200] less" in said
    assert not app.warning
    assert titles(app) == ["Reliability of the forecast", "Regret of every way to choose"]


@pytest.mark.parametrize(
    ("auc", "skill"),
    [((0.56, 0.45, 0.66), False), ((0.4, 0.3, 0.48), False), ((0.6, 0.5, 0.7), False), ((0.6, 0.51, 0.7), True)],
)
def test_no_skill_is_said_in_those_words(
    monkeypatch: pytest.MonkeyPatch, auc: tuple[float, float, float], skill: bool
) -> None:
    app = shown(monkeypatch, tables(regimes=auc))
    assert [box.value.startswith("This forecast has no skill here: ") for box in app.warning] == [True] * (not skill)
    assert f"{auc[0]:.2f} [{auc[1]:.2f}, {auc[2]:.2f}]" in words(app)


def test_another_setting_shows_its_own_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    app = shown(monkeypatch, tables(seeds=(0.97, 0.96, 0.98), smollm2=(0.55, 0.4, 0.7)))
    app.segmented_control(key="trust-setting-wudi").set_value(NEW_SEEDS).run()
    assert "0.97 [0.96, 0.98]" in words(app)
    assert not app.warning
    app.segmented_control(key="trust-setting-wudi").set_value(OTHER_MODEL).run()
    assert not app.exception
    assert "fitted on the lab alone" in words(app)
    assert "no skill here" in words(app)
    assert "no regret here" in words(app)


def test_predictors_stand_in_the_order_of_their_auc(monkeypatch: pytest.MonkeyPatch) -> None:
    """The setting without regimes has no rows of them; those of the same updates stand in."""
    table = shown(monkeypatch, tables()).dataframe[0].value
    assert list(table["predictor"]) == ["Forecast, labels", "Interference", "Update norm"]
    assert list(table["auc"]) == ["0.90 [0.85, 0.95]", "0.68 [0.60, 0.78]", "n/a"]
    assert list(table["rho"])[1] == "+0.60 [+0.50, +0.70]"
    assert list(table["partial"]) == ["+0.55", "+0.55", "n/a"]
    assert list(table["needs"]) == ["labels", "updates", "updates"]


def test_an_auc_that_is_not_defined_is_no_claim(monkeypatch: pytest.MonkeyPatch) -> None:
    nan = float("nan")
    app = shown(monkeypatch, tables(regimes=(nan, nan, nan)))
    assert "has no AUC for harm" in words(app)
    assert not app.warning


@pytest.mark.parametrize(("method", "needs"), [("<b>*ties*", "labels"), ("wudi", "prompts")])
def test_what_was_not_tested_has_no_numbers(monkeypatch: pytest.MonkeyPatch, method: str, needs: str) -> None:
    app = shown(monkeypatch, tables(), method, needs)
    assert len(app.info) == 1
    assert "did not test this forecast" in app.info[0].value
    assert "*ties*" not in app.info[0].value
    assert not app.get("plotly_chart")


def test_a_missing_table_does_not_end_the_page(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> Tables:
        raise InputError("results/regret.csv: expected a table of the decision benchmark, found no file")

    monkeypatch.setattr(trust, "read_results", missing)
    app = AppTest.from_function(page, default_timeout=30)
    app.session_state["method"], app.session_state["needs"] = "wudi", "labels"
    app.run()
    assert not app.exception
    assert "cannot be read" in app.error[0].value
    assert "regret.csv" in app.text[0].value
