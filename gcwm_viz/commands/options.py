"""Options that several commands share, and what they mean."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from gcwm_viz.commands.settings import epilog
from gcwm_viz.errors import InputError
from gcwm_viz.geometry.config import DEFAULT_PRESET, PRESETS
from gcwm_viz.merging import DEFAULT_METHOD
from gcwm_viz.probes.tasks import GENERAL, GENERAL_TEXT
from gcwm_viz.updates.sequence import ABOUT, READINGS, STATES

if TYPE_CHECKING:
    from gcwm_viz.engines.engine import Engine

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"

_AUTO = "the best on the development probes, each tried without another merge"
ETA_OF_RUN = f"auto with such probes under {DEFAULT_PRESET}, else the method's or preset's"

# Other imports stand in the functions: torch and transformers load only for a command that needs them.


def add_inputs(parser: argparse.ArgumentParser, *, required: bool = True) -> None:
    parser.add_argument("--base", type=input_folder, required=required, metavar="DIR")
    parser.add_argument(
        "--update",
        action="append",
        required=required,
        type=_named_path,
        metavar="NAME=DIR",
        help="checkpoint, LoRA adapter, MODEL+ADAPTER, EARLIER..LATER (what came between two states of a training) or "
        "folder of update tensors; repeat in order of arrival",
    )
    parser.add_argument(
        "--strength",
        action="append",
        default=[],
        type=_named_strength,
        metavar="NAME=S",
        help="take sΔ for the update's Δ, in the merge and in its expert [1]; repeat for other updates",
    )
    parser.add_argument(
        "--targets",
        metavar="REGEX",
        help="merge the matrices whose tensor names it matches, such as vision_tower [those of the decoder blocks]",
    )
    parser.add_argument("--leave-out", metavar="REGEX", help="but not these, such as down_proj")
    parser.add_argument(
        "--state",
        action="append",
        default=[],
        type=input_folder,
        metavar="DIR",
        help="describe these states S_1, S_2, … of a training pipeline instead of merging",
    )
    parser.add_argument(
        "--probes",
        type=probe_folder,
        metavar="DIR",
        help=f"folder of dev, test, representation probes; {GENERAL_TEXT}: the texts that ship with the package",
    )
    add_probe_dtype(parser)


def add_plan(parser: argparse.ArgumentParser) -> None:
    """``--plan``, or the inputs one by one, or those of a training in sequence."""
    parser.add_argument("--plan", type=Path, metavar="FILE", help="YAML with base, updates and settings")
    add_inputs(parser, required=False)
    parser.add_argument(
        "--sequence",
        type=input_folder,
        metavar="DIR",
        help="in place of --update: folder of checkpoint-100, checkpoint-200, …, the states of one training",
    )
    words = "; ".join(f"{reading}: {about}" for reading, about in ABOUT.items())
    parser.add_argument("--read-as", choices=READINGS, default=STATES, help=f"{words} [{STATES}]")


def add_probe_dtype(parser: argparse.ArgumentParser, default: str = "float32") -> None:
    """``default``: what holds without the option, in words."""
    parser.add_argument(
        "--probe-dtype",
        choices=("float32", "bfloat16", "float16"),
        help=f"precision of the models that are scored [{default}]; 16 bits take half the memory",
    )


def add_settings(parser: argparse.ArgumentParser, *, grid: bool = False, eta: str = "") -> None:
    """grid: several methods and several values of a setting; the command reads them as a product. eta: what holds
    without ``--eta``, in words; the command has that option only with them."""
    several, product = ("A,B,…", "values; repeat for a product") if grid else ("VALUE", "one setting of the preset")
    parser.add_argument("--preset", default=DEFAULT_PRESET, help=f"{', '.join(PRESETS)} [{DEFAULT_PRESET}]")
    parser.add_argument(
        "--method", default=DEFAULT_METHOD, metavar=several if grid else None, help=f"see `methods` [{DEFAULT_METHOD}]"
    )
    if eta:
        parser.add_argument("--eta", metavar="NUMBER|auto", help=f"strength of the merge [{eta}]; auto: {_AUTO}")
    if not grid:
        parser.add_argument(
            "--outside",
            choices=("keep", "sum", "mean"),
            help="tensors that are no target matrix, such as norms and embeddings: the base's [keep], base + η ΣΔ, or "
            "the mean of the updates'",
        )
    parser.add_argument(
        "--set", action="append", default=[], dest="settings", metavar=f"KEY={several}", help=f"{product}; see below"
    )
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = epilog()


def add_resources(parser: argparse.ArgumentParser, device: str = "auto", *, engine: bool = False) -> None:
    """engine: the command can spread its work over a cluster."""
    parser.add_argument(
        "--device", default=device, help=f"auto (cuda, then mps, then cpu) or a torch device [{device}]"
    )
    parser.add_argument("--workers", type=_count, help="processes at a time [one a GPU, or one a core without a GPU]")
    parser.add_argument(
        "--memory-budget", type=float, metavar="GB", help="memory for the tensors of all workers together"
    )
    parser.set_defaults(engine="local", address=None)
    if engine:
        parser.add_argument(
            "--engine", choices=("local", "ray"), help="processes on this machine [local] or a Ray cluster"
        )
        parser.add_argument(
            "--address", metavar="HOST:PORT", help="of the Ray cluster's head, or auto [a cluster on this machine]"
        )


def engine_of(options: argparse.Namespace) -> "Engine":
    """Raises :class:`InputError` for a device, a cluster or a package that is not there."""
    if options.engine == "ray":
        from gcwm_viz.engines.cluster import RayEngine

        return RayEngine(options.address, options.device, options.workers)
    if options.address is not None:
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


def _named_strength(text: str) -> tuple[str, float]:
    from gcwm_viz.updates.strength import checked, from_text

    name, separator, value = text.rpartition("=")
    if not separator or not name:
        raise argparse.ArgumentTypeError(f"expected NAME=S, got {text!r}")
    try:
        return name, checked(from_text(value), name)
    except InputError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def check_file(option: str, file: Path) -> None:
    """Raises :class:`InputError` where no ``file`` can be written."""
    if file.is_dir() or not file.parent.is_dir():
        raise InputError(f"{option} {file}: expected a file in a folder that exists")


def input_folder(text: str) -> Path:
    """A folder, or a URL that fsspec reads; a hub id is looked up later."""
    if "://" not in text:
        return Path(text)
    from gcwm_viz.checkpoints.location import location, reached

    try:
        return reached(location(text))
    except InputError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def probe_folder(text: str) -> Path:
    """As :func:`input_folder`; a name for the probes that ship, where no such folder is here."""
    if text == GENERAL_TEXT and not Path(text).exists():
        return GENERAL
    return input_folder(text)


def run_folder(text: str) -> Path:
    """A folder to write results into: on this machine or a mount, because renames and locks must work there."""
    if "://" in text:
        raise argparse.ArgumentTypeError(f"{text}: results need a folder on this machine or a mounted one, not a URL")
    return Path(text)
