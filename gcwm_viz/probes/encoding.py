"""Tasks as token ids: the context, and the tokens whose probability is scored.

Plain prompts: prompt and answer are tokenised separately, encode(prompt) ++ encode(answer) ++ EOS, so no token
straddles the boundary, and the prompt is tokenised as when a user sends it.

Chat: where the tokenizer has a chat template (and the task's style does not say otherwise), the prompt is the user's
message and the answer the assistant's, closed by the token with which the template closes it. ``enable_thinking`` is
off: the answer follows at once.

Choices by letter: "QUESTION\\nA. FIRST\\nB. SECOND\\nAnswer:" and then " A" or " B" (in a chat "A" or "B"). Choices by
text: the question unchanged, then " CHOICE" (in a chat "CHOICE"; no second space where the question ends in white
space). Question and choice are tokenised together, as in lm-evaluation-harness: white space at the end of a question
belongs to the choice, and where a token would straddle the two they are tokenised separately. Nothing closes a choice.

Texts: the first token, BOS where the tokenizer writes one, is context; all others are predicted.
"""

from functools import cached_property, partial
from string import ascii_uppercase
from typing import Any, TypeAlias

from gcwm_viz.errors import InputError
from gcwm_viz.probes.tasks import ChoiceTask, PromptTask, Style, TextTask

Request: TypeAlias = tuple[list[int], list[int]]
"""Token ids of the context, and those after it that are scored."""


def encode_prompt(tokenizer: Any, prompt: str) -> list[int]:
    """Token ids of a prompt with the tokenizer's own opening tokens and without a closing EOS."""
    ids = list(tokenizer(prompt, add_special_tokens=True)["input_ids"])
    if len(ids) > 1 and tokenizer.eos_token_id is not None and ids[-1] == tokenizer.eos_token_id:
        ids.pop()
    return ids


def encode_answer(tokenizer: Any, answer: str) -> list[int]:
    """Token ids of an answer and EOS. Without an EOS in the tokenizer, those of the answer alone (a prefix match)."""
    ids = list(tokenizer(answer, add_special_tokens=False)["input_ids"])
    return ids if tokenizer.eos_token_id is None else [*ids, int(tokenizer.eos_token_id)]


def listed(question: str, choices: tuple[str, ...]) -> str:
    """A question with its choices by letter, as it is put to a model."""
    lines = [f"{letter}. {choice}" for letter, choice in zip(ascii_uppercase, choices, strict=False)]
    return "\n".join([question, *lines, "Answer:"])


class Encoder:
    """The tokenizer of a model, and its chat template where it has one."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        self.has_chat = bool(getattr(tokenizer, "chat_template", None))

    def requests(self, task: PromptTask | ChoiceTask | TextTask) -> list[list[Request]]:
        """Requests of each example of a task: one, or for choices one a choice.

        Raises InputError for an example without tokens to condition on or to score, naming task and example.
        """
        if isinstance(task, PromptTask):
            requests = [[self.exchange(p, a, task.style)] for p, a in zip(task.prompts, task.answers, strict=True)]
        elif isinstance(task, TextTask):
            requests = [[self._text(text)] for text in task.texts]
        else:
            requests = [self._choices(q, c, task.style) for q, c in zip(task.questions, task.choices, strict=True)]
        for example, own in enumerate(requests, start=1):
            for start, end in own:
                if not start or not end:
                    raise InputError(
                        f"task {task.name!r} ({task.split}), example {example}: expected at least one token each "
                        f"before and in what is scored, found {len(start)} and {len(end)}"
                    )
        return requests

    def exchange(self, prompt: str, answer: str, style: Style) -> Request:
        """Prompt and closed answer, for training and for probing."""
        if not self._in_chat(style):
            return self.opening(prompt, style), encode_answer(self.tokenizer, answer)
        closing = [] if self.closing is None else [self.closing]
        return self.opening(prompt, style), [*self._plain(answer), *closing]

    def opening(self, prompt: str, style: Style) -> list[int]:
        """Token ids of a prompt, up to where its answer begins."""
        if self._in_chat(style):
            return self._plain(self.chat(prompt, style))
        return encode_prompt(self.tokenizer, prompt)

    def chat(self, prompt: str, style: Style) -> str:
        """A user's message in the template, up to the start of the assistant's."""
        system = [] if style.system is None else [{"role": "system", "content": style.system}]
        return self._render([*system, {"role": "user", "content": prompt}], opened=True)

    def _choices(self, question: str, choices: tuple[str, ...], style: Style) -> list[Request]:
        letters = style.scoring == "letter"
        before = listed(question, choices) if letters else question
        after = tuple(ascii_uppercase[: len(choices)]) if letters else choices
        if self._in_chat(style):
            text = self.chat(before, style)
            return [self._joined(text, choice, self._plain) for choice in after]
        bare = before.rstrip()
        space = before[len(bare) :] or " "
        return [
            self._joined(
                bare, choice if choice[:1].isspace() else f"{space}{choice}", partial(encode_prompt, self.tokenizer)
            )
            for choice in after
        ]

    def _joined(self, before: str, after: str, encode: Any) -> Request:
        start, ids = encode(before), encode(before + after)
        if ids[: len(start)] == start and len(ids) > len(start):
            return start, ids[len(start) :]
        return start, self._plain(after)

    def _text(self, text: str) -> Request:
        ids = encode_prompt(self.tokenizer, text)
        return ids[:1], ids[1:]

    def _plain(self, text: str) -> list[int]:
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def _in_chat(self, style: Style) -> bool:
        return style.chat and self.has_chat

    @cached_property
    def closing(self) -> int | None:
        """The special token that ends an assistant's message in the chat template: the first one after it, else EOS."""
        answer = "Paris"
        text = self._render([{"role": "user", "content": "?"}, {"role": "assistant", "content": answer}], opened=False)
        special = {token for token, added in self.tokenizer.added_tokens_decoder.items() if added.special}
        special |= set(self.tokenizer.all_special_ids)
        closing = self._plain(text[text.rfind(answer) + len(answer) :]) if answer in text else []
        return next((token for token in closing if token in special), self.tokenizer.eos_token_id)

    def _render(self, messages: list[dict[str, str]], *, opened: bool) -> str:
        try:
            return str(
                self.tokenizer.apply_chat_template(
                    messages, tokenize=False, add_generation_prompt=opened, enable_thinking=False
                )
            )
        except Exception as error:  # a template is a program and can fail in any way
            reason = f"{type(error).__name__}: {error}".splitlines()[0][:200]
            raise InputError(
                f'the chat template of the tokenizer fails ({reason}); probes.json {{"chat": false}} goes without it'
            ) from None
