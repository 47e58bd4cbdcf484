import pandas as pd

from gcwm_viz.probes.metrics import METRICS, OWN, UNITS, headline, offered, rows_of_metric
from gcwm_viz.probes.scores import score_matrix


def scores(**measured: list[str]) -> pd.DataFrame:
    """A table of one step: task → the metrics that it has."""
    rows = [
        ("step", 1, "u", task, "test", metric, place / 10, 0.01, 5)
        for place, (task, metrics) in enumerate(measured.items())
        for metric in metrics
    ]
    return pd.DataFrame(rows, columns=["model", "step", "update", "task", "split", "metric", "value", "se", "n"])


def test_every_metric_has_a_unit_and_a_direction() -> None:
    assert METRICS.keys() == UNITS.keys()
    assert all(METRICS[name] for name in (*OWN, "accuracy"))


def test_the_headline_is_what_all_tasks_have() -> None:
    assert offered(scores(a=["em", "nll"], b=["em", "nll"])) == ["em", "nll"]
    assert offered(scores(a=["acc", "nll"], b=["ppl", "nll"])) == ["acc", "nll", "ppl"]
    assert offered(scores(a=["acc", "acc_norm"], b=["acc"])) == ["acc", "acc_norm"]
    assert offered(scores(a=["em", "nll"], b=["acc", "nll"])) == ["accuracy", "em", "acc", "nll"]
    assert headline(scores(a=["ppl", "nll"])) == "nll"
    assert headline(scores()) == "em"


def test_accuracy_is_each_tasks_own() -> None:
    table = scores(a=["em", "nll"], b=["acc", "acc_norm"], c=["ppl", "nll"], d=["acc_norm"])
    rows = rows_of_metric(table, "accuracy")
    assert list(zip(rows["task"], rows["metric"], strict=True)) == [("a", "em"), ("b", "acc"), ("d", "acc_norm")]
    matrix = score_matrix(table, "test", "accuracy")
    assert dict(matrix.loc[1]) == {"a": 0.0, "b": 0.1, "d": 0.3}


def test_a_single_metric_is_taken_as_it_stands() -> None:
    table = scores(a=["em", "nll"], b=["acc", "nll"])
    assert list(rows_of_metric(table, "nll")["task"]) == ["a", "b"]
    assert list(rows_of_metric(table, "acc")["task"]) == ["b"]
    assert rows_of_metric(table, "ppl").empty
