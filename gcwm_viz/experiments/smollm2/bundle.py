"""The shipped SmolLM2 example: LoRA updates of five tasks, the states of training in sequence, data and recipe.

adapters/NN_NAME/            PEFT LoRA adapters (float16), in order of arrival
sft/step_T/                  S_T of Seq. SFT for T ≥ 2 as an adapter of the same rank (S_1 is the first adapter)
train/NAME.jsonl             training examples
probes/{dev,test}/*.jsonl    probe files; probes.json: how they are put to a model
recipe.json                  settings, seeds, versions, seconds, measured scores, sha256 of every file
NOTICE.md                    sources of facts and model
"""

from pathlib import Path

from gcwm_viz.experiments.bundles import Bundle, numbered, read_recipe, require

FORMAT = "gcwm_viz.example"
SHIPPED = Path(__file__).parent / "bundle"
ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors", "training.json")


def locate(root: str | Path | None = None) -> Bundle:
    """The shipped example, or the one trained into `root`. Raises InputError naming what is missing."""
    folder = SHIPPED if root is None else Path(root)
    recipe, order = read_recipe(folder, "a trained example")
    updates = {name: adapter_folder(folder, i, name) for i, name in enumerate(order, start=1)}
    sft = {1: updates[order[0]]} | {step: state_folder(folder, step) for step in range(2, len(order) + 1)}
    require((path / file for path in (*updates.values(), *sft.values()) for file in ADAPTER_FILES), "the example")
    return Bundle(folder, updates, sft, recipe)


def adapter_folder(root: Path, position: int, name: str) -> Path:
    return root / "adapters" / numbered(position, name)


def state_folder(root: Path, step: int) -> Path:
    return root / "sft" / f"step_{step}"
