"""Variants of a run as text: back from a link, in words, and what is no variant."""

import pytest

from gcwm_viz.continual.config import RunSettings
from gcwm_viz.continual.plan_file import parse_plan
from gcwm_viz.continual.store import RunStore
from gcwm_viz.decide import variant as module
from gcwm_viz.decide.variant import AS_RUN, Variant, parse
from gcwm_viz.errors import InputError
from gcwm_viz.runs.inputs import Inputs
from gcwm_viz.runs.run import create_run
from tests.continual.inputs import write_base, write_updates

ODD = "~1_a b%ü&<b>"
QUOTED = "%7E1_a%20b%25%C3%BC%26%3Cb%3E"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> RunStore:
    root = tmp_path_factory.mktemp("variant")
    paths = [path for _, path in write_updates(root / "updates", "abc")]
    inputs = Inputs(base=write_base(root / "base"), updates=list(zip(("a", "b", ODD), paths, strict=True)))
    return create_run(inputs, root / "run", RunSettings.preset_with("scale-free", {"eta": 0.8}))


@pytest.fixture(autouse=True)
def regatable(monkeypatch: pytest.MonkeyPatch) -> None:
    """The run is not computed: what it would need for another gate is tested with ``regate``."""
    monkeypatch.setattr(module, "check_regatable", lambda store: None)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (AS_RUN, "as run"),
        ("1_a~0.5_b", f"without {ODD}; strength of b 0.5"),
        (f"1_b~1_a~1_{QUOTED}", f"in the order b, a, {ODD}"),
        ("~~0.7_eta~none_gate~calibrated", "η 0.7; gate off; calibrated coefficients"),
        ("1_b~~0.3_tau~0.2_alpha_min", f"without a, {ODD}; τ 0.3; lowest α 0.2"),
    ],
)
def test_a_link_gives_the_same_variant_and_its_words(store: RunStore, text: str, words: str) -> None:
    variant = parse(text, store)
    assert variant.text(store) == text
    assert parse(variant.text(store), store) == variant
    assert variant.words(store) == words


def test_what_is_as_in_the_run_is_left_out_of_the_link(store: RunStore) -> None:
    run = Variant.as_run(store)
    assert run.at(eta=0.8, tau=run.settings.gcwm.tau).text(store) == AS_RUN
    assert parse(f"1_a~1_b~1_{QUOTED}~~0.8_eta", store) == run


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("1_a~1_x", "update 'x', expected STRENGTH_NAME of a, b"),
        ("", "the link is empty"),
        ("a", "update '', expected"),
        ("1_a~2_a", "update 'a' twice"),
        ("0_a", "strength as a number above 0"),
        ("nan_a", "strength as a number above 0"),
        ("11_a", "at most 10"),
        ("x_a", "strength as a number above 0"),
        ("~~0.5_lam", "setting '0.5_lam', expected each of eta, gate"),
        ("~~0.5_tau~0.6_tau", "setting '0.6_tau'"),
        ("~~nan_eta", "setting eta must be"),
        ("~~-1_eta", "setting eta must be"),
        ("~~x_tau", "setting tau must be"),
        ("~~1_gate", "setting gate must be"),
        ("~~0.9_alpha_min~0.1_alpha_max", "alpha_min must not exceed"),
        ("~~" + "9" * 400 + "_eta", "setting eta must be"),
    ],
)
def test_what_is_no_variant_is_one_sentence(store: RunStore, text: str, reason: str) -> None:
    with pytest.raises(InputError) as raised:
        parse(text, store)
    assert reason in str(raised.value)
    assert len(str(raised.value)) < 600
    assert "\n" not in str(raised.value)


def test_a_run_without_a_gate_to_change_says_so(store: RunStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    with pytest.raises(InputError, match="is not finished"):
        parse("~~0.3_tau", store)


def test_the_plan_has_order_strengths_and_settings(store: RunStore) -> None:
    plan = parse_plan(parse("0.5_b~1_a~~0.7_eta~none_gate", store).plan(store).encode(), "here")
    assert [name for name, _ in plan.updates] == ["b", "a"]
    assert plan.strengths == {"b": 0.5}
    assert plan.settings == {"eta": 0.7, "gate": "none"}
    assert plan.run_settings() == parse("~~0.7_eta~none_gate", store).settings
