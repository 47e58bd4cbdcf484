"""Options that several commands share, and what they mean."""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tqdm import tqdm

from gcwm_viz.errors import InputError

if TYPE_CHECKING:
    from gcwm_viz.continual.config import RunSettings
    from gcwm_viz.continual.store import RunStore
    from gcwm_viz.engines.engine import Engine
    from gcwm_viz.runs.inputs import Inputs

DEFAULT_PRESET, DEFAULT_METHOD = "scale-free", "gcwm"

# The package's own imports stand in the functions: torch and transformers load only for a command that needs them.


def add_inputs(parser: argparse.ArgumentParser, *, probes: bool = True, plan: bool = False) -> None:
    if plan:
        parser.add_argument("--plan", type=Path, metavar="FILE", help="YAML with base, updates and settings")
    parser.add_argument("--base", type=input_folder, required=not plan, metavar="DIR")
    parser.add_argument(
        "--update",
        action="append",
        required=not plan,
        type=_named_path,
        metavar="NAME=DIR",
        help="checkpoint, LoRA adapter, MODEL+ADAPTER or folder of update tensors; repeat in order of arrival",
    )
    parser.add_argument(
        "--state",
        action="append",
        default=[],
        type=input_folder,
        metavar="DIR",
        help="describe these states S_1, S_2, … of a training pipeline instead of merging",
    )
    if probes:
        parser.add_argument(
            "--probes", type=input_folder, metavar="DIR", help="folder with dev, test, representation probes"
        )
        add_probe_dtype(parser)


def add_probe_dtype(parser: argparse.ArgumentParser, default: str = "float32") -> None:
    """``default``: what stands for it where the option is not given, in words."""
    parser.add_argument(
        "--probe-dtype",
        choices=("float32", "bfloat16", "float16"),
        help=f"precision of the models that are scored [{default}]; 16 bits take half the memory",
    )


def add_settings(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--preset", default=DEFAULT_PRESET, help="scale-free (default), paper or release")
    parser.add_argument("--method", default=DEFAULT_METHOD, help="gcwm (default), see `methods`")
    parser.add_argument(
        "--set", action="append", default=[], dest="settings", metavar="KEY=VALUE", help="one setting of the preset"
    )


def add_resources(parser: argparse.ArgumentParser, device: str = "auto") -> None:
    parser.add_argument(
        "--device", default=device, help=f"auto (cuda, then mps, then cpu) or a torch device [{device}]"
    )
    parser.add_argument("--workers", type=_count, help="processes at a time [one a GPU, or one a core without a GPU]")
    parser.add_argument("--memory-budget", type=float, metavar="GB", help="for the tensors of all workers together")


def add_engine(parser: argparse.ArgumentParser) -> None:
    """For the commands that spread their work; :func:`add_resources` beside it."""
    parser.add_argument(
        "--engine", choices=("local", "ray"), default="local", help="processes on this machine [local] or a Ray cluster"
    )
    parser.add_argument(
        "--address", metavar="HOST:PORT", help="of the Ray cluster's head, or auto [a cluster of this machine alone]"
    )


def engine_of(options: argparse.Namespace) -> "Engine":
    """Raises :class:`InputError` for a device, a cluster or a package that is not there."""
    if getattr(options, "engine", "local") == "ray":
        from gcwm_viz.engines.cluster import RayEngine

        return RayEngine(options.address, options.device, options.workers)
    if getattr(options, "address", None) is not None:
        raise InputError("--address belongs to --engine ray")
    from gcwm_viz.continual.device import pick_device
    from gcwm_viz.engines.local import LocalEngine

    return LocalEngine(pick_device(options.device), options.workers)


def budget_of(options: argparse.Namespace) -> int | None:
    """``--memory-budget`` in bytes."""
    return None if options.memory_budget is None else int(options.memory_budget * 1e9)


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, got {text!r}")
    return int(text)


def _named_path(text: str) -> tuple[str, Path]:
    name, separator, path = text.partition("=")
    if not separator or not name or not path:
        raise argparse.ArgumentTypeError(f"expected NAME=DIR, got {text!r}")
    return name, input_folder(path)


def input_folder(text: str) -> Path:
    """A folder, or a URL that fsspec reads; a hub id is looked up later."""
    if "://" not in text:
        return Path(text)
    from gcwm_viz.checkpoints.location import location, reached

    try:
        return reached(location(text))
    except InputError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def run_folder(text: str) -> Path:
    """A folder to write results into: of this machine or a mount, because renames and locks must work there."""
    if "://" in text:
        raise argparse.ArgumentTypeError(f"{text}: results need a folder of this machine or a mounted one, not a URL")
    return Path(text)


def settings_of(options: argparse.Namespace) -> "RunSettings":
    from gcwm_viz.continual.config import RunSettings, parse_setting
    from gcwm_viz.merging.registry import get_method

    overrides = dict(parse_setting(text) for text in options.settings)
    get_method(options.method)
    return RunSettings.preset_with(options.preset, overrides, options.method)


def existing_run(out: Path, options: argparse.Namespace) -> "RunStore":
    """The run at ``out``, to go on with. Raises InputError where it has other settings than the command asks for."""
    from gcwm_viz.continual.config import difference
    from gcwm_viz.continual.store import RunStore

    store = RunStore.open(out)
    changed = difference(store.settings.to_dict(), settings_of(options).to_dict())
    if changed:
        raise InputError(
            f"run {out} has other settings than asked for ({changed}); expected another --out, "
            "or resume to go on with its own"
        )
    return store


def inputs_of(options: argparse.Namespace) -> "Inputs":
    from gcwm_viz.checkpoints.hub import local_folder
    from gcwm_viz.continual.run_file import PROBE_DTYPES
    from gcwm_viz.runs.inputs import Inputs

    return Inputs(
        base=local_folder(options.base),
        updates=[(name, local_folder(path)) for name, path in options.update],
        states=options.state,
        probes=options.probes,
        probe_dtype=options.probe_dtype or PROBE_DTYPES[0],
    )


def planned(options: argparse.Namespace) -> "tuple[Inputs, RunSettings]":
    """Inputs and settings of ``--plan FILE``, single settings and probes replaced by those given beside it, or else
    of ``--base`` and ``--update``."""
    if options.plan is None:
        if options.base is None or not options.update:
            raise InputError("expected --plan, or --base with at least one --update")
        return inputs_of(options), settings_of(options)
    from dataclasses import replace

    from gcwm_viz.continual.config import parse_setting
    from gcwm_viz.continual.plan_file import read_plan
    from gcwm_viz.runs.inputs import Inputs

    if options.base is not None or options.update:
        raise InputError("--plan names base and updates; expected no --base and no --update beside it")
    if options.preset != DEFAULT_PRESET or options.method != DEFAULT_METHOD:
        raise InputError("--plan names preset and method; expected no --preset and no --method beside it")
    plan = read_plan(options.plan)
    plan = replace(plan, settings={**plan.settings, **dict(parse_setting(text) for text in options.settings)})
    inputs = Inputs(
        base=plan.base,
        updates=plan.updates,
        states=options.state,
        probes=options.probes or plan.probes,
        probe_dtype=options.probe_dtype or plan.probe_dtype,
    )
    return inputs, plan.run_settings()


class Bars:
    """One bar with time left for each phase of a job, on the terminal while the block lasts."""

    def __init__(self) -> None:
        self._bars: dict[str, tqdm] = {}
        tqdm.monitor_interval = 0  # its thread would be in the way of forking workers

    def __call__(self, phase: str, done: int, total: int, label: str) -> None:
        if phase not in self._bars:
            self._bars[phase] = tqdm(total=total, initial=done - 1, desc=phase, unit="", dynamic_ncols=True)
        bar = self._bars[phase]
        bar.set_postfix_str(label[-40:], refresh=False)
        bar.update(done - bar.n)

    def __enter__(self) -> "Bars":
        return self

    def __exit__(self, *_: object) -> None:
        for bar in self._bars.values():
            bar.close()


def work_on(opened: "Callable[[], RunStore]", options: argparse.Namespace) -> None:
    """Go on with the run that ``opened`` gives to its end, bars on the terminal; nothing is opened without workers."""
    from gcwm_viz.runs.run import continue_run
    from gcwm_viz.runs.strength import strength_note
    from gcwm_viz.runs.tables import Run

    with engine_of(options) as engine, Bars() as bars:
        store = opened()
        told = store.file.notes
        for note in told:
            print(f"note: {note}", flush=True)
        continue_run(store, engine, memory_budget=budget_of(options), progress=bars)
    for note in filter(None, [*_measured_notes(store, told), strength_note(Run(store))]):
        print(f"note: {note}")
    print(f"run {store.path}: {store.steps} steps, {len(store.keys)} matrices")


def _measured_notes(store: "RunStore", told: Sequence[str]) -> list[str]:
    """What the weights showed of each update, beyond what its headers had told."""
    from gcwm_viz.runs.tables import Run

    notes = []
    for update, note in Run(store).tables["updates"][["update", "note"]].itertuples(index=False):
        known = "; ".join(each for each in told if each.startswith(f"{update}: "))  # the table has these first
        measured = note.removeprefix(known).removeprefix("; ")
        notes += [f"{update}: {measured}"] if measured else []
    return notes
