"""``python -m tests.browser.training_shot FILE``: TensorBoard beside a training of the lab's model with the callback.

Needs Chromium and TensorBoard.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from playwright.sync_api import sync_playwright
from transformers import AutoModelForCausalLM, AutoTokenizer, Trainer, TrainingArguments

from gcwm_viz.experiments.lab.bundle import locate
from gcwm_viz.integrations.transformers import GeometryConflictCallback
from gcwm_viz.probes.encoding import Encoder
from gcwm_viz.probes.tasks import PromptTask, load_tasks
from tests.browser.conftest import QUIET

LEARNED, EARLIER = "symbol", ("past", "capital")
STEPS, EVERY = 80, 4
WINDOW = {"width": 1440, "height": 1000}


def train(logs: Path) -> None:
    """The lab's base on one of its tasks, measured against the shipped updates of two others."""
    lab = locate()
    tokenizer = AutoTokenizer.from_pretrained(lab.base)
    (task,) = (task for task in load_tasks(lab.probes) if task.name == LEARNED and task.split == "dev")
    assert isinstance(task, PromptTask)
    rows = [_row(*request) for (request,) in Encoder(tokenizer).requests(task)]
    os.environ["TENSORBOARD_LOGGING_DIR"] = str(logs / "events")
    arguments = TrainingArguments(
        str(logs / "out"), max_steps=STEPS, per_device_train_batch_size=1, gradient_accumulation_steps=8,
        learning_rate=1e-3, logging_steps=EVERY, save_strategy="no", report_to="tensorboard",
        use_cpu=True, disable_tqdm=True,
    )  # fmt: skip
    trainer = Trainer(
        model=AutoModelForCausalLM.from_pretrained(lab.base, dtype=torch.float32), args=arguments, train_dataset=rows
    )
    earlier = {name: lab.updates[name] for name in EARLIER}
    trainer.add_callback(GeometryConflictCallback(trainer, base=lab.base, earlier=earlier, every=EVERY, families=False))
    trainer.train()


def _row(start: list[int], end: list[int]) -> dict[str, Any]:
    return {"input_ids": start + end, "labels": [-100] * len(start) + end}


def main(file: Path) -> None:
    with tempfile.TemporaryDirectory() as place:
        logs = Path(place)
        train(logs)
        with socket.socket() as probe:
            probe.bind(("localhost", 0))
            port = probe.getsockname()[1]
        board = subprocess.Popen(
            [sys.executable, "-m", "tensorboard.main", "--logdir", str(logs), "--port", str(port)],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            with sync_playwright() as playwright:
                browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=QUIET.split())
                page = browser.new_page(viewport=WINDOW)  # type: ignore[arg-type]
                _wait_for(port)
                page.goto(f"http://localhost:{port}/?tagFilter=geometry#timeseries", wait_until="load")
                page.get_by_text("geometry/incoming_conflict").first.wait_for(timeout=60_000)
                page.wait_for_timeout(3000)
                page.screenshot(path=file)
        finally:
            board.kill()
            board.wait()


def _wait_for(port: int) -> None:
    for _ in range(600):
        with socket.socket() as probe:
            if probe.connect_ex(("localhost", port)) == 0:
                return
        time.sleep(0.1)
    raise RuntimeError("TensorBoard did not answer within a minute")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
