"""``regate``: another gate on a finished run, scored by its probes."""

import argparse
from pathlib import Path

from gcwm_viz.commands.options import Commands
from gcwm_viz.commands.work import Bars
from gcwm_viz.errors import InputError


def add(commands: Commands) -> None:
    parser = commands.add_parser("regate", help="score a finished run with another gate; nothing is merged again")
    parser.add_argument("run", type=Path, metavar="RUN")
    parser.add_argument(
        "--set", action="append", default=[], dest="settings", metavar="KEY=VALUE",
        help="tau, kappa, alpha_min, alpha_max, skip_tol or gate; the others stay as in the run",
    )  # fmt: skip
    parser.add_argument("--step", type=int, help="step whose state is scored [the last]")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="JSON file to write")
    parser.add_argument("--device", default="auto")
    parser.set_defaults(command=regate)


def regate(options: argparse.Namespace) -> None:
    from gcwm_viz.checkpoints.atomic import write_json
    from gcwm_viz.continual.config import parse_setting
    from gcwm_viz.continual.device import pick_device
    from gcwm_viz.continual.store import RunStore
    from gcwm_viz.studies.regate import regate as score

    if not options.out.parent.is_dir() or options.out.is_dir():
        raise InputError(f"{options.out}: expected a file in an existing folder")
    store = RunStore.open(options.run)
    changes = dict(parse_setting(text) for text in options.settings)
    with Bars() as bars:
        result = score(store, changes, pick_device(options.device), step=options.step, progress=bars)
    write_json(options.out, result)
    print(f"{'task':<24} {'split':<5} {'metric':<6} {'as run':>9} {'regated':>9} {'difference':>11} {'± se':>9}")
    for row in result["scores"]:
        numbers = (row["as_run"], row["regated"], row["difference"], row["difference_se"])
        texts = ["n/a" if number is None else f"{number:.3f}" for number in numbers]
        print(
            f"{row['task'][:24]:<24} {row['split']:<5} {row['metric']:<6} {texts[0]:>9} {texts[1]:>9} {texts[2]:>11} "
            f"{texts[3]:>9}"
        )
    print(f"wrote {options.out}")
