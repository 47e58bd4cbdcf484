"""How a model answers one example of a task, beside what the probe expects."""

from dataclasses import dataclass
from typing import Any

import torch

from gcwm_viz.probes.encoding import Encoder
from gcwm_viz.probes.generation import Token, greedy, prompt_ids, request_tokens
from gcwm_viz.probes.tasks import ChoiceTask, PromptTask, TextTask, single

MAX_ANSWER = 64
"""Tokens of a greedy answer at most: a wrong one need not end by itself."""
MAX_TEXT = 256
"""Tokens of a text that are scored and shown."""


@dataclass(frozen=True)
class Answer:
    """How one model answers one example.

    given: its greedy answer; empty for choices and texts. expected: the tokens that the probe scores, of the answer, of
    the right choice, or the first :data:`MAX_TEXT` of a text. shares: probability of each choice among the choices, in
    [0, 1], or NaN; the likeliest is the model's. Empty for other kinds.
    """

    given: tuple[Token, ...] = ()
    expected: tuple[Token, ...] = ()
    shares: tuple[float, ...] = ()

    @property
    def loss(self) -> float:
        """Mean loss of the expected tokens, in nats per token: the probe's NLL."""
        return sum(token.loss for token in self.expected) / len(self.expected)


def answer(model: Any, tokenizer: Any, task: PromptTask | ChoiceTask | TextTask, example: int) -> Answer:
    """The answer of a model in evaluation mode to example ``example`` (from 1) of ``task``.

    The share of a choice is the softmax over the choices of what the probe compares: log-probabilities by letter, and
    by text those over the choice's length in characters. Raises InputError as the functions of ``generation`` do.
    """
    one = single(task, example)
    (requests,) = Encoder(tokenizer).requests(one)
    if isinstance(one, TextTask):
        ((start, end),) = requests
        return Answer(expected=tuple(request_tokens(model, tokenizer, (start, end[:MAX_TEXT]))))
    scored = [request_tokens(model, tokenizer, request) for request in requests]
    if isinstance(one, PromptTask):
        ids = prompt_ids(tokenizer, one.prompts[0], one.style)
        given = tuple(greedy(model, tokenizer, ids, MAX_ANSWER))
        return Answer(given=given, expected=tuple(scored[0]))
    losses = torch.tensor([sum(token.loss for token in tokens) for tokens in scored], dtype=torch.float64)
    if one.style.scoring == "text":
        losses = losses / torch.tensor([len(choice) for choice in one.choices[0]], dtype=torch.float64)
    return Answer(expected=tuple(scored[one.answers[0]]), shares=tuple((-losses).softmax(0).tolist()))
