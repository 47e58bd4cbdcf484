"""``calibrate``: how much of the merged state and of each update every matrix should take, by development probes."""

import argparse
from pathlib import Path

from gcwm_viz.calibration.settings import CalibrationSettings
from gcwm_viz.commands.options import Commands
from gcwm_viz.commands.work import Bars


def add(commands: Commands) -> None:
    parser = commands.add_parser(
        "calibrate", help="fit how much of each update every matrix takes, on development probes; report on test"
    )
    parser.add_argument("run", type=Path, metavar="RUN", help="a finished run; goes on where it stopped")
    for setting in CalibrationSettings.declared():
        if setting.name == "sources":
            continue
        default = setting.default if setting.default is not None else "none" if setting.name == "passes" else "all"
        parser.add_argument(
            f"--{setting.name.replace('_', '-')}",
            type=setting.kind,
            choices=setting.choices or None,
            default=setting.default,
            metavar=None if setting.choices else "N" if setting.kind is int else "X",
            help=f"{setting.meaning} [{default}]".replace("%", "%%"),
        )
    parser.add_argument("--only-state", action="store_true", help="coefficients of the merged state alone")
    parser.add_argument(
        "--dtype", choices=("float32", "bfloat16"), default="float32", help="precision of matrix products [float32]"
    )
    parser.add_argument(
        "--recompute", action="store_true", help="gradient checkpointing: less memory, a third more time, same result"
    )
    parser.add_argument("--device", default="auto", help="auto (cuda, then mps, then cpu) or a torch device [auto]")
    parser.add_argument("--out", type=Path, metavar="DIR", help="[RUN/calibration, which the app and export read]")
    parser.set_defaults(command=calibrate)


def calibrate(options: argparse.Namespace) -> None:
    from gcwm_viz.calibration.calibrate import calibrate as calibrated
    from gcwm_viz.calibration.result import FOLDER, STOPS, read_fitted
    from gcwm_viz.continual.device import pick_device
    from gcwm_viz.probes.metrics import UNITS, headline, rows_of_metric

    names = [name for name in CalibrationSettings.names() if name != "sources"]
    settings = CalibrationSettings(
        sources="state" if options.only_state else "all", **{name: getattr(options, name) for name in names}
    )
    with Bars() as bars:
        table = calibrated(
            options.run,
            settings,
            options.out,
            precision=options.dtype,
            recompute=options.recompute,
            device=pick_device(options.device),
            progress=bars,
        )
    fitted = read_fitted(options.out or options.run / FOLDER)
    for split in ("dev", "test"):
        part = table[table["split"] == split]
        if part.empty:
            continue
        metric = headline(part)
        rows = rows_of_metric(part, metric)
        seen = f"the fit saw {fitted['sees']}" if split == "dev" else "the fit saw none of it"
        print(f"{UNITS[metric]} ({split} split; {seen}): merged {rows['merged_value'].mean():.3f}, calibrated "
              f"{rows['value'].mean():.3f}, mean over {len(rows)} tasks")  # fmt: skip
        columns = ["task", "merged_value", "value", "difference", "difference_se", "n"]
        print(rows[columns].to_string(index=False, float_format=lambda value: f"{value:.3f}"))
    why = STOPS[fitted["stop"]]
    print(f"{fitted['coefficients']} coefficients after {fitted['best_pass']} passes; the fit ended because {why}")
