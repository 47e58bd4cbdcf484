"""What a model is asked: a prompt of one's own, or one example of a task, whose answer the probe judges."""

import math
from dataclasses import dataclass
from string import ascii_uppercase
from typing import Any

from gcwm_viz.probes.behaviour import BehaviourProbe
from gcwm_viz.probes.description import PLAIN
from gcwm_viz.probes.encoding import Encoder, listed
from gcwm_viz.probes.generation import prompt_ids
from gcwm_viz.probes.tasks import ChoiceTask, PromptTask, single


@dataclass(frozen=True)
class Judgement:
    """Whether the probe counts a model's answer as right, None where its logits are not finite; and the probability in
    [0, 1] of the whole expected answer with what closes it, or NaN."""

    right: bool | None
    probability: float


@dataclass(frozen=True)
class Question:
    """A prompt as it is shown, and the task of that example alone where it is one."""

    prompt: str
    probe: PromptTask | ChoiceTask | None = None

    @classmethod
    def of(cls, task: PromptTask | ChoiceTask, example: int) -> "Question":
        """Example ``example`` (from 1) of a task."""
        if isinstance(task, PromptTask):
            one = single(task, example)
            return cls(one.prompts[0], one)
        chosen = single(task, example)
        question, choices = chosen.questions[0], chosen.choices[0]
        return cls(listed(question, choices) if task.style.scoring == "letter" else question, chosen)

    @property
    def expected(self) -> str:
        """The right answer, or the right choice; empty for a prompt of one's own."""
        if self.probe is None or isinstance(self.probe, PromptTask):
            return self.probe.answers[0] if self.probe else ""
        answer = self.probe.answers[0]
        text = self.probe.choices[0][answer]
        return f"{ascii_uppercase[answer]}. {text}" if self.probe.style.scoring == "letter" else text

    def ids(self, tokenizer: Any) -> list[int]:
        """Token ids up to where the answer begins. Raises InputError for a chat template that fails and for an example
        without tokens."""
        if self.probe is None:
            return prompt_ids(tokenizer, self.prompt, PLAIN)
        return self._request(tokenizer)[0]

    def tokens(self, tokenizer: Any) -> int:
        """Tokens of the expected answer, with what closes it; 0 for a prompt of one's own."""
        return len(self._request(tokenizer)[1]) if self.probe else 0

    def judge(self, model: Any, tokenizer: Any) -> Judgement | None:
        """How the probe judges a model's answer, None for a prompt of one's own.

        Exact match for prompts, and for choices whether the right one is the likeliest: see ``behaviour``.
        """
        if self.probe is None:
            return None
        (values,) = BehaviourProbe(tokenizer, [self.probe]).measure(model, model.device)
        metrics = {name: float(value[0]) for name, value in values.metrics.items()}
        own = metrics["em" if isinstance(self.probe, PromptTask) else "acc"]
        if math.isnan(own):
            return Judgement(None, math.nan)
        # Rounding can take a loss below zero.
        return Judgement(bool(own), math.exp(-max(0.0, metrics["nll"]) * self.tokens(tokenizer)))

    def _request(self, tokenizer: Any) -> tuple[list[int], list[int]]:
        assert self.probe is not None
        (requests,) = Encoder(tokenizer).requests(self.probe)
        return requests[self.probe.answers[0] if isinstance(self.probe, ChoiceTask) else 0]
