"""Plans: read as written, relative to their folder, refused with one sentence."""

from pathlib import Path

import pytest

from gcwm_viz.cli import main
from gcwm_viz.continual.plan_file import MAX_BYTES, RunPlan, parse_plan, read_plan
from gcwm_viz.errors import InputError
from gcwm_viz.runs.tables import open_run
from tests.continual.inputs import write_base, write_updates

UPDATES = "updates: [{name: a, path: /u/a}]"


def parsed(text: str, folder: Path | None = None) -> RunPlan:
    return parse_plan(text.encode(), "p.yaml", folder)


def test_round_trip() -> None:
    plan = RunPlan(
        base=Path("/models/base"),
        updates=(("b: [odd] 'name' ∆", Path("/u/b")), ("a", Path("/u/a"))),
        preset="paper",
        method="wudi",
        settings={"eta": 0.5, "lam": 1e-6, "memory": None, "gate": "none", "iters": 7},
        probes=Path("/probes"),
    )
    assert parsed(plan.to_yaml()) == plan
    assert plan.run_settings().gcwm.iters == 7


def test_strengths_are_part_of_a_plan_where_they_are_not_1() -> None:
    plan = RunPlan(base=Path("/m"), updates=(("a", Path("/a")), ("b", Path("/b"))), strengths={"b": 0.1 + 0.2, "a": 1})
    assert "- name: a\n  path: /a\n- name: b\n  path: /b\n  strength: 0.30000000000000004\n" in plan.to_yaml()
    assert parsed(plan.to_yaml()).strengths == {"b": 0.1 + 0.2}
    assert parsed(parsed(plan.to_yaml()).to_yaml()) == parsed(plan.to_yaml())
    for text in ("2", "2.0", "'2'", "2e0"):
        assert parsed(f"base: /b\nupdates: [{{name: a, path: /a, strength: {text}}}]").strengths == {"a": 2.0}


def test_the_precision_of_probes_is_part_of_a_plan() -> None:
    text = b"base: /m/base\nupdates: [{name: a, path: /m/a}]\nprobe_dtype: bfloat16\n"
    plan = parse_plan(text, "p")
    assert plan.probe_dtype == "bfloat16"
    assert parse_plan(plan.to_yaml().encode(), "p") == plan
    assert "probe_dtype" not in parse_plan(text.replace(b"bfloat16", b"float32"), "p").to_yaml()
    with pytest.raises(InputError, match="must give probe_dtype as one of float32, bfloat16, float16, found 'int8'"):
        parse_plan(text.replace(b"bfloat16", b"int8"), "p")


def test_defaults_relative_paths_and_numbers_as_on_the_command_line(tmp_path: Path) -> None:
    file = tmp_path / "plan.yaml"
    file.write_text(f"base: models/base\n{UPDATES}\nsettings: {{lam: 1e-6, memory: none, gate: none}}\n")
    plan = read_plan(file)
    assert plan.base == tmp_path / "models" / "base"
    assert (plan.preset, plan.method, plan.probes) == ("scale-free", "gcwm", None)
    assert plan.settings == {"lam": 1e-6, "memory": None, "gate": "none"}
    assert plan.run_settings().gcwm.gate == "none"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "must map names to values, found nothing"),
        ("- a\n- b", "found a list of 2"),
        ("base: [", "not valid YAML in line 1"),
        ("base: /b\nbase: /c\n" + UPDATES, "a name stands twice"),
        ("base: &x /b\nprobes: *x\n" + UPDATES, "an alias"),
        ("base: !!python/object/apply:os.system [id]\n" + UPDATES, "not valid YAML in line 1"),
        ("base: 2026-99-99\n" + UPDATES, "not valid YAML"),
        ("base: " + "[" * 5000, "nesting too deep"),
        (UPDATES, "must give base as a folder"),
        ("base: /b", "one or more updates"),
        ("base: /b\nupdates: []", "one or more updates"),
        ("base: /b\nupdates: [a]", "must give update 1 as name and path, found 'a'"),
        ("base: /b\nupdates: [{name: 1, path: /u}]", "the name of update 1 as text on one line .* found the int 1"),
        ("base: /b\nupdates: [{name: a, path: /u, weight: 2}]", "must give update 1 as name and path"),
        ("base: /b\nupdates: [{name: a, strength: 2}]", "must give update 1 as name and path"),
        *(
            (
                f"base: /b\nupdates: [{{name: a, path: /u, strength: {value}}}]",
                "must give the strength of 'a' as a number above 0 and at most 10, found",
            )
            for value in ("0", "-1", "10.1", ".inf", ".nan", "true", "much", "[1]", "")
        ),
        ("base: b\n" + UPDATES, "uploaded, so base must be an absolute path, found 'b'"),
        ("base: /b\nsettings: [1]\n" + UPDATES, "must map setting names to values"),
        ("base: /b\nsettings: {eta: [1]}\n" + UPDATES, "setting eta a number or a word"),
        ("base: /b\nmodel: x\n" + UPDATES, "unknown entry 'model'"),
        ('base: "/b\\0"\n' + UPDATES, "must give base as a folder"),
        ("base: /b\nprobes: {}\n" + UPDATES, "must give probes as a folder"),
        ("#" * (MAX_BYTES + 1), "too large"),
    ],
)
def test_what_is_no_plan_is_refused(text: str, message: str) -> None:
    with pytest.raises(InputError, match=r"plan p\.yaml .*" + message) as caught:
        parsed(text)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


def test_bytes_that_are_no_text() -> None:
    with pytest.raises(InputError, match="not text in UTF-8"):
        parse_plan(b"\xff\xfe", "p.yaml")


@pytest.mark.parametrize(
    ("entry", "message"),
    [("method: magic", "method must be one of"), ("preset: pape", "preset must be one of"),
     ("settings: {kapa: 3}", "unknown setting 'kapa'"), ("settings: {energy: 2}", "setting energy"),
     ("settings: {memory: many}", "setting memory"), ("settings: {eta: true}", "setting eta")],
)  # fmt: skip
def test_settings_are_checked_like_those_of_the_command_line(entry: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        parsed(f"base: /b\n{UPDATES}\n{entry}").run_settings()


@pytest.fixture
def plan_file(tmp_path: Path) -> Path:
    write_base(tmp_path / "base")
    write_updates(tmp_path / "updates", "ab")
    file = tmp_path / "plan.yaml"
    file.write_text(
        "base: base\nupdates:\n- {name: b, path: updates/b}\n- {name: a, path: updates/a}\n"
        "preset: paper\nmethod: wudi\nsettings: {iters: 3, eta: 0.5}\n"
    )
    return file


def test_run_and_check_accept_a_plan(plan_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "--plan", str(plan_file), "--device", "cpu"]) == 0
    assert "b (delta): 8 matrices" in capsys.readouterr().out
    out = tmp_path / "run"
    assert main(["run", "--plan", str(plan_file), "--out", str(out), "--device", "cpu", "--set", "iters=4"]) == 0
    run = open_run(out)
    settings = run.store.settings
    assert run.updates == ["b", "a"]
    assert (settings.method, settings.preset, settings.gcwm.iters, settings.continual.eta) == ("wudi", "paper", 4, 0.5)


@pytest.mark.parametrize(
    ("more", "message"),
    [(["--base", "x"], "no --base"), (["--update", "a=x"], "no --update"), (["--preset", "release"], "no --preset"),
     (["--method", "mean"], "no --method")],
)  # fmt: skip
def test_what_the_plan_names_is_not_given_twice(
    plan_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], more: list[str], message: str
) -> None:
    assert main(["run", "--plan", str(plan_file), "--out", str(tmp_path / "run"), *more]) == 2
    assert message in capsys.readouterr().err


def test_run_needs_a_plan_or_a_base(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "--out", str(tmp_path / "run")]) == 2
    assert "expected --plan, or --base" in capsys.readouterr().err
    assert main(["run", "--plan", str(tmp_path / "no.yaml"), "--out", str(tmp_path / "run")]) == 2
    assert "cannot read the plan (No such file" in capsys.readouterr().err


def test_an_adapter_upon_a_model_counts_from_the_plans_folder_in_both_parts(tmp_path: Path) -> None:
    for name in ("base", "model", "adapter", "a+b"):
        (tmp_path / name).mkdir()
    file = tmp_path / "plan.yaml"
    file.write_text("base: base\nupdates: [{name: x, path: model+adapter}, {name: y, path: a+b}]\n")
    paths = [path for _, path in read_plan(file).updates]
    assert paths == [Path(f"{tmp_path}/model+{tmp_path}/adapter"), tmp_path / "a+b"]
