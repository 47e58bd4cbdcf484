"""Training in the lab: corpora of characters, and updates of the target matrices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from gcwm_viz.experiments.corpus import Corpus
from gcwm_viz.experiments.draw import Example
from gcwm_viz.experiments.lab.model import BOS_ID, EOS_ID, PAD_ID, character_ids, load_state, target_names
from gcwm_viz.experiments.training import Hook, TrainSettings, train


class CharacterCorpus(Corpus):
    """Examples in the lab's tokens: BOS and the prompt, then the answer and EOS."""

    def __init__(self, examples: Sequence[Example], weights: Tensor | None = None) -> None:
        pairs = [([BOS_ID, *character_ids(p)], [*character_ids(a), EOS_ID]) for p, a in examples]
        super().__init__(pairs, PAD_ID, weights)

    @classmethod
    def mixture(cls, pools: Sequence[tuple[float, Sequence[Example]]]) -> CharacterCorpus:
        """Several pools, each with its share of the batch, whatever its size."""
        examples = [example for _, pool in pools for example in pool]
        odds = [torch.full((len(pool),), share / len(pool), dtype=torch.float64) for share, pool in pools]
        return cls(examples, torch.cat(odds))


def train_update(
    model: torch.nn.Module,
    state: Mapping[str, Tensor],
    corpus: Corpus,
    settings: TrainSettings,
    generator: torch.Generator,
    *,
    hooks: Sequence[Hook] = (),
    stop: int | None = None,
) -> dict[str, Tensor]:
    """Train the target matrices from `state` and return their change, float32.

    `state` (all parameters) is loaded into `model`, which holds the trained parameters afterwards. `stop`: number of
    steps after which to end.
    """
    load_state(model, state)
    parameters = dict(model.named_parameters())
    trained = {name: parameters[name] for name in target_names(parameters)}
    for name, parameter in parameters.items():
        parameter.requires_grad_(name in trained)
        parameter.grad = None
    start = {name: parameter.detach().clone() for name, parameter in trained.items()}
    train(model, trained, corpus, settings, generator, hooks=hooks, stop=stop)
    return {name: parameter.detach() - start[name] for name, parameter in trained.items()}
