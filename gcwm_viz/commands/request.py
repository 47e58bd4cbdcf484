"""What a command line asks for: inputs, settings, and the run that they describe."""

import argparse
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gcwm_viz.errors import InputError
from gcwm_viz.geometry.config import DEFAULT_PRESET, WITHOUT_PROBES
from gcwm_viz.merging import DEFAULT_METHOD

if TYPE_CHECKING:
    from gcwm_viz.continual.config import RunSettings
    from gcwm_viz.continual.store import RunStore
    from gcwm_viz.experiments.bundles import Bundle
    from gcwm_viz.runs.inputs import Inputs
    from gcwm_viz.updates.choice import Choice

# Other imports stand in the functions: torch and transformers load only for a command that needs them.


def settings_of(options: argparse.Namespace) -> "RunSettings":
    """Those of the command line; where η is to be chosen, the default stands for it."""
    from gcwm_viz.continual.config import RunSettings, fixed
    from gcwm_viz.merging.registry import get_method

    get_method(options.method)
    return RunSettings.preset_with(options.preset, fixed(single_settings(options)), options.method)


def single_settings(options: argparse.Namespace) -> dict[str, Any]:
    """``--set``, ``--outside`` and ``--eta`` by name. Raises :class:`InputError` where both give η."""
    from gcwm_viz.continual.config import parse_setting

    single = dict(parse_setting(text) for text in options.settings)
    eta = getattr(options, "eta", None)
    if eta is not None and "eta" in single:
        raise InputError("η is given twice, by --eta and by --set; expected one of them")
    outside = getattr(options, "outside", None)
    single |= {} if outside is None else {"outside": outside}
    return single if eta is None else {**single, "eta": parse_setting(f"eta={eta}")[1]}


def with_eta(
    inputs: "Inputs", settings: "RunSettings", single: Mapping[str, Any], *, default: bool = True
) -> "tuple[RunSettings, bool]":
    """Settings, and whether η is to be chosen on the development probes: where ``single`` says so and, with
    ``default``, where it gives no η under the default preset and there are such probes. Without them η is then that of
    :data:`~gcwm_viz.geometry.config.WITHOUT_PROBES`, for a method that has no η of its own."""
    from gcwm_viz.continual.config import AUTO
    from gcwm_viz.merging.registry import get_method
    from gcwm_viz.runs.run import eta_obstacle

    if "eta" in single or not default or settings.preset != DEFAULT_PRESET:
        return settings, single.get("eta") == AUTO
    if not eta_obstacle(inputs, settings):
        return settings, True
    if inputs.states or get_method(settings.method).eta is not None:
        return settings, False
    return settings.at_eta(WITHOUT_PROBES), False


def existing_run(out: Path, options: argparse.Namespace) -> "RunStore | None":
    """The run at ``out``, to go on with; None where there is none. Raises :class:`InputError` where its settings are
    not those of the command."""
    from gcwm_viz.continual.config import AUTO, difference
    from gcwm_viz.continual.store import RunStore

    if not (out / "run.json").is_file():
        return None
    store = RunStore.open(out)
    asked = settings_of(options)
    if single_settings(options).get("eta", AUTO) == AUTO:  # the run's own, whoever chose it
        asked = asked.at_eta(store.settings.continual.eta)
    changed = difference(store.settings.to_dict(), asked.to_dict())
    if changed:
        raise InputError(
            f"run {out} has other settings than asked for ({changed}); expected another --out, "
            "or resume to go on with its own"
        )
    return store


def new_run(inputs: "Inputs", out: Path, options: argparse.Namespace, name: str, *, default: bool = True) -> "RunStore":
    """A run of these inputs at ``out``, with the settings of the command line; ``default``: as :func:`with_eta`."""
    from gcwm_viz.runs.run import create_run

    settings, choose_eta = with_eta(inputs, settings_of(options), single_settings(options), default=default)
    return create_run(inputs, out, settings, name, choose_eta=choose_eta)


def strengths_of(options: argparse.Namespace) -> dict[str, float]:
    """``--strength`` by update. Raises :class:`InputError` for one that is named twice."""
    strengths = dict(options.strength)
    if len(strengths) < len(options.strength):
        raise InputError("--strength names an update twice, expected one strength for each")
    return strengths


def choice_of(options: argparse.Namespace, planned: "Choice | None" = None) -> "Choice":
    """``--targets`` and ``--leave-out``, each instead of that of a plan."""
    from gcwm_viz.updates.choice import Choice

    own = planned or Choice()
    return Choice(targets=options.targets or own.targets, leave_out=options.leave_out or own.leave_out)


def inputs_of(options: argparse.Namespace) -> "Inputs":
    from gcwm_viz.checkpoints.hub import local_folder
    from gcwm_viz.continual.run_file import PROBE_DTYPES
    from gcwm_viz.runs.inputs import Inputs

    return Inputs(
        base=local_folder(options.base),
        updates=[(name, local_folder(path)) for name, path in options.update or []],
        strengths=strengths_of(options),
        choice=choice_of(options),
        states=options.state,
        probes=options.probes,
        probe_dtype=options.probe_dtype or PROBE_DTYPES[0],
    )


def _in_sequence(options: argparse.Namespace) -> "Inputs":
    from gcwm_viz.updates.sequence import open_sequence, read_as

    if options.update or options.state:
        raise InputError("--sequence names updates and states; expected no --update and no --state beside it")
    updates, states = read_as(options.read_as, open_sequence(options.sequence))
    return replace(inputs_of(options), updates=updates, states=states)


def inputs_of_bundle(bundle: "Bundle", base: Path, *, sequential: bool = False) -> "Inputs":
    """sequential: the states of training in sequence, to be described, instead of a merge."""
    from gcwm_viz.runs.inputs import Inputs

    states = [bundle.sft[step] for step in sorted(bundle.sft)] if sequential else []
    return Inputs(base=base, updates=list(bundle.updates.items()), states=states, probes=bundle.probes)


def planned(options: argparse.Namespace) -> "tuple[Inputs, RunSettings, bool]":
    """Inputs and settings of ``--plan FILE``, single settings, strengths, targets and probes replaced by those given
    beside it, or else of ``--base`` and ``--update``; and whether η is to be chosen, as :func:`with_eta` says."""
    if options.plan is None:
        if options.base is None or not (options.update or options.sequence):
            raise InputError("expected --plan, or --base with at least one --update or with --sequence")
        inputs = inputs_of(options) if options.sequence is None else _in_sequence(options)
        return inputs, *with_eta(inputs, settings_of(options), single_settings(options))
    from gcwm_viz.continual.plan_file import read_plan
    from gcwm_viz.runs.inputs import Inputs

    if options.base is not None or options.update or options.sequence:
        raise InputError("--plan names base and updates; expected no --base, no --update and no --sequence beside it")
    if options.preset != DEFAULT_PRESET or options.method != DEFAULT_METHOD:
        raise InputError("--plan names preset and method; expected no --preset and no --method beside it")
    plan = read_plan(options.plan)
    single = {**plan.settings, **single_settings(options)}
    plan = replace(plan, settings=single)
    inputs = Inputs(
        base=plan.base,
        updates=plan.updates,
        strengths={**plan.strengths, **strengths_of(options)},
        choice=choice_of(options, plan.choice),
        states=options.state or plan.states,
        probes=options.probes or plan.probes,
        probe_dtype=options.probe_dtype or plan.probe_dtype,
    )
    return inputs, *with_eta(inputs, plan.run_settings(), single)
