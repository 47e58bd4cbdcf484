import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from gcwm_viz.errors import InputError
from gcwm_viz.probes.tasks import LabelledTask, PromptTask, load_labelled, load_tasks


def write(path: Path, lines: Iterable[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines), encoding="utf-8")


def pair(prompt: str, answer: str) -> str:
    return json.dumps({"prompt": prompt, "answer": answer})


def test_reads_both_splits_in_order(tmp_path: Path) -> None:
    write(tmp_path / "test" / "b.jsonl", [pair("1+1=", "2"), "", pair("é\u2028x", " y")])
    write(tmp_path / "test" / "a.jsonl", [pair("p", "q")])
    write(tmp_path / "dev" / "b.jsonl", [pair("p", "q")])
    tasks: list[Any] = load_tasks(tmp_path)
    assert [(t.split, t.name, len(t)) for t in tasks] == [("dev", "b", 1), ("test", "a", 1), ("test", "b", 2)]
    assert tasks[2].prompts == ("1+1=", "é\u2028x")
    assert tasks[2].answers == ("2", " y")
    assert load_labelled(tmp_path) == []


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", "expected a JSON object"),
        ("[1]", "found list"),
        ('{"prompt": "x"}', 'expected "answer" to be a non-empty string, found no such field'),
        ('{"prompt": "x", "answer": ""}', 'expected "answer"'),
        ('{"prompt": 3, "answer": "x"}', "found int"),
        ('{"prompt": null, "answer": "x"}', "found NoneType"),
        (pair("x" * 20_001, "y"), "at most 20000 characters"),
        ("[" * 100_000, "expected a JSON object"),
    ],
)
def test_bad_lines_are_named(tmp_path: Path, line: str, said: str) -> None:
    write(tmp_path / "dev" / "a.jsonl", [pair("p", "q"), line])
    with pytest.raises(InputError, match=r"a\.jsonl:2: ") as caught:
        load_tasks(tmp_path)
    assert said in str(caught.value)
    assert len(str(caught.value)) < 400


def test_missing_and_empty(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="found nothing"):
        load_tasks(tmp_path / "none")
    with pytest.raises(InputError, match="found none"):
        load_tasks(tmp_path)
    write(tmp_path / "dev" / "a.jsonl", [""])
    with pytest.raises(InputError, match="empty file"):
        load_tasks(tmp_path)
    (tmp_path / "dev" / "a.jsonl").write_bytes(b'{"prompt": "\xff"}')
    with pytest.raises(InputError, match="UTF-8"):
        load_tasks(tmp_path)


def test_labels(tmp_path: Path) -> None:
    path = tmp_path / "representation" / "s.jsonl"
    rows = [json.dumps({"text": f"t{i}", "label": i % 2}) for i in range(4)]
    write(path, rows)
    assert load_labelled(tmp_path) == [LabelledTask("s", ("t0", "t1", "t2", "t3"), ("0", "1", "0", "1"))]
    write(path, rows[:3])
    with pytest.raises(InputError, match=r"s\.jsonl: .*at least 2 texts a class, found 1 with label '1'"):
        load_labelled(tmp_path)
    write(path, rows[::2])
    with pytest.raises(InputError, match="at least 2 classes, found 1"):
        load_labelled(tmp_path)


def test_lengths_must_agree() -> None:
    with pytest.raises(InputError, match="found 2 and 1"):
        PromptTask("a", "dev", ("x", "y"), ("z",))
    with pytest.raises(InputError, match="found 1 and 2"):
        LabelledTask("a", ("x",), ("y", "z"))
