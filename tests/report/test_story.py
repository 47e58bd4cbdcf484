"""The story of a run: every number in it is one of the run's tables, and what is not known is said."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from gcwm_viz.attribution.worst import worst_step
from gcwm_viz.probes.scores import forgetting_matrix
from gcwm_viz.report import story as module
from gcwm_viz.report.story import Sentence, story
from gcwm_viz.runs.highlights import peak, scored
from gcwm_viz.runs.tables import Run, open_run
from gcwm_viz.ui.page import FILES
from tests.factories_runs import NASTY, write_run


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    root = tmp_path_factory.mktemp("runs")
    return {kind: open_run(write_run(root, kind)) for kind in ("normal", "one", "nan", "wide")}


def numbers(text: str) -> list[float]:
    return [float(found) for found in re.findall(r"[-+]?\d+\.\d+", text)]


@pytest.mark.parametrize("kind", ["normal", "one", "nan", "wide"])
def test_every_run_has_five_sentences_that_lead_to_pages(runs: dict[str, Run], kind: str) -> None:
    told = story(runs[kind])
    assert len(told) == 5
    for sentence in told:
        assert sentence.page in FILES
        assert sentence.text.endswith(".")
        assert not re.search(r"\bnan\b|n/a|None", sentence.text.replace(NASTY, ""))


def test_what_was_reached_and_lost_are_the_scores(runs: dict[str, Run]) -> None:
    run = runs["normal"]
    scores = scored(run)
    assert scores is not None
    reached, forgot = story(run)[:2]
    overall = scores.downstream["overall"]
    assert numbers(reached.text)[:2] == [round(overall[0], 3), round(overall.iloc[-1], 3)]
    lost = forgetting_matrix(scores.R, higher_is_better=scores.higher_is_better).iloc[-1]
    lost = lost[[name for name in run.updates[:-1] if name in lost]]
    assert f" {lost.idxmax()} " in forgot.text
    assert round(float(lost.max()), 3) in numbers(forgot.text)
    assert forgot.selection["task"] == lost.idxmax()


def test_a_task_whose_best_score_is_unknown_is_not_the_one_that_lost_most(
    runs: dict[str, Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = runs["normal"]
    scores = scored(run)
    assert scores is not None
    first = str(story(run)[1].selection["task"])
    holes = scores.R.copy()
    holes.loc[3, first] = np.nan
    monkeypatch.setattr(module, "scored", lambda _: replace(scores, R=holes))
    assert story(run)[1].selection["task"] != first


def test_the_place_is_the_worst_step_and_names_its_matrices(runs: dict[str, Run]) -> None:
    run = runs["normal"]
    worst = worst_step(run.tables["attribution"], run.updates)
    assert worst is not None
    place = story(run)[2]
    assert place.selection == {"step": worst.step, "task": worst.task}
    assert f"{len(worst.half)} of {worst.matrices} matrices" in place.text
    assert numbers(place.text)[0] == round(worst.change, 2)


def test_conflict_is_said_to_point_to_the_harm_only_where_its_interval_leaves_zero(
    runs: dict[str, Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = runs["normal"]
    top = peak(run.tables["matrices"])
    assert top is not None

    def why(rho: float, low: float, high: float) -> Sentence:
        row = pd.DataFrame([{"rho": rho, "low": low, "high": high}])
        monkeypatch.setattr(module, "spatial_summary", lambda *_, **__: row)
        return story(run)[3]

    assert f"layer {top['layer']}, {top['family']}" in why(0.3, 0.1, 0.5).text
    assert "where conflict is high" in why(0.3, 0.1, 0.5).text
    assert "where conflict is low" in why(-0.3, -0.5, -0.1).text
    assert "does not tell" in why(0.3, -0.1, 0.5).text
    assert "does not tell" in why(0.3, np.nan, np.nan).text
    assert "not defined" in why(np.nan, np.nan, np.nan).text


def test_what_was_not_computed_is_said_and_linked(tmp_path: Path) -> None:
    folder = write_run(tmp_path, "normal")
    for table in ("attribution/tables/attribution", "tables/scores"):
        (folder / f"{table}.parquet").unlink()
    reached, forgot, place, _, next_ = story(open_run(folder))
    assert (reached.page, "no probes" in reached.text) == ("Start", True)
    assert forgot.page == "Scores"
    assert (place.page, "not computed" in place.text) == ("Where", True)
    assert (next_.page, "not forecast" in next_.text) == ("Decide", True)
