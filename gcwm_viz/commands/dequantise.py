"""``dequantise``: a quantised checkpoint as one that can be merged."""

import argparse
from pathlib import Path

from gcwm_viz.commands.options import Commands


def add(commands: Commands) -> None:
    parser = commands.add_parser("dequantise", help="write 8-bit floats or a GGUF as a checkpoint that can be merged")
    parser.add_argument("source", type=Path, metavar="DIR", help="checkpoint of 8-bit floats with scales, or a GGUF")
    parser.add_argument("--out", type=Path, required=True, metavar="NEW_DIR")
    parser.add_argument("--dtype", choices=("float32", "float16", "bfloat16"), default="bfloat16", help="[bfloat16]")
    parser.set_defaults(command=dequantise)


def dequantise(options: argparse.Namespace) -> None:
    import torch

    from gcwm_viz.checkpoints import dequantise

    dequantise.dequantise(options.source, options.out, getattr(torch, options.dtype))
    print(f"{options.out}: {options.source} in {options.dtype}")
