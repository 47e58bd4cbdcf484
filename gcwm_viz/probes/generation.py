"""Greedy answers of a model, token by token, and the probability of each token.

Decoding takes the likeliest token each time (of equal ones the first), so that an answer is the expected one exactly
where the probe's exact match says so: see ``behaviour``. Requests are encoded as those of probes: see ``encoding``.
"""

import inspect
import math
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gcwm_viz.errors import InputError
from gcwm_viz.probes.encoding import Encoder, Request
from gcwm_viz.probes.tasks import Style

END = "■"
"""What the closing token of an answer is shown as."""
_INCOMPLETE = "\ufffd"


@dataclass(frozen=True)
class Token:
    """One token of an answer.

    text: what it adds to the decoded text; empty for the first bytes of a character of several tokens, and :data:`END`
    for the token that closes the answer. probability: of this token given all before it, in [0, 1], or NaN.
    """

    text: str
    probability: float
    closes: bool = False

    @property
    def loss(self) -> float:
        """−log probability, in nats."""
        return -math.log(self.probability) if self.probability != 0 else math.inf


def prompt_ids(tokenizer: Any, prompt: str, style: Style) -> list[int]:
    """Token ids of a prompt up to where its answer begins, through the chat template where there is one.

    Raises InputError for a template that fails.
    """
    return Encoder(tokenizer).opening(prompt, style)


def greedy(model: Any, tokenizer: Any, ids: list[int], max_tokens: int) -> Iterator[Token]:
    """The greedy answer to a prompt with the token ids ``ids``: at most ``max_tokens`` tokens, fewer where the model
    takes no more. Ends with EOS or with the token that closes a message of the chat template, which it yields too.

    The model is in evaluation mode and stays as it is until the last token. Raises InputError for a prompt without
    tokens or longer than the model takes, and, with the token in question, where the logits are not finite.
    """
    if not ids:
        raise InputError("the prompt has no tokens, expected at least one")
    limit = _limit(model)
    if limit is not None and len(ids) >= limit:
        raise InputError(f"the prompt has {len(ids)} tokens, expected at most {limit - 1}, as many as the model takes")
    most = max_tokens if limit is None else min(max_tokens, limit - len(ids))
    return _decode(model, tokenizer, ids, most)


def unknown_tokens(tokenizer: Any, ids: list[int]) -> int:
    """How many of a prompt's tokens stand for text that the tokenizer has no token for."""
    unknown = {getattr(tokenizer, "unk_token_id", None), getattr(tokenizer, "pad_token_id", None)} - {None}
    special = {getattr(tokenizer, "bos_token_id", None), getattr(tokenizer, "eos_token_id", None)}
    return sum(token in unknown - special for token in ids)


def request_tokens(model: Any, tokenizer: Any, request: Request) -> list[Token]:
    """The scored tokens of a request of a probe, each with its probability given those before it.

    Of an answer, the mean of their losses is the probe's NLL, in nats per token. Raises InputError for a request
    without tokens on one side, and for one longer than the model takes.
    """
    start, end = request
    if not start or not end:
        raise InputError(f"expected at least one token each of prompt and answer, found {len(start)} and {len(end)}")
    limit = _limit(model)
    if limit is not None and len(start) + len(end) > limit:
        raise InputError(
            f"prompt and answer have {len(start) + len(end)} tokens, expected at most {limit}, as many as the model "
            "takes"
        )
    with torch.inference_mode():
        # The logits of a position predict the token after it.
        logits_av = _forward(model, start + end, keep=len(end) + 1, use_cache=False).logits[0, -len(end) - 1 : -1]
        probabilities = _probabilities(logits_av, torch.tensor(end, device=logits_av.device))
    text, stops = _Text(tokenizer, start), closing_ids(model, tokenizer)
    tokens = []
    for position, (token, probability) in enumerate(zip(end, probabilities, strict=True), start=1):
        last = position == len(end)
        closes = last and token in stops
        tokens.append(Token(text.closed() if closes else text.add(token, last=last), probability, closes))
    return tokens


def closing_ids(model: Any, tokenizer: Any) -> set[int]:
    """Tokens that end an answer: EOS of tokenizer and generation settings, and what closes a chat message."""
    settings = getattr(getattr(model, "generation_config", None), "eos_token_id", None)
    found = [*(settings if isinstance(settings, list) else [settings]), tokenizer.eos_token_id]
    encoder = Encoder(tokenizer)
    if encoder.has_chat:
        with suppress(InputError):  # a prompt may go without a template that fails
            found.append(encoder.closing)
    return {int(token) for token in found if token is not None}


@torch.inference_mode()  # entered anew for each token: what consumes them runs outside of it
def _decode(model: Any, tokenizer: Any, ids: list[int], most: int) -> Iterator[Token]:
    parameters = inspect.signature(model.forward).parameters
    caches = {"past_key_values", "use_cache"} <= parameters.keys()
    text, stops = _Text(tokenizer, ids), closing_ids(model, tokenizer)
    everything, fresh = list(ids), list(ids)
    cache: Any = None
    for position in range(1, most + 1):
        given: dict[str, Any] = {} if cache is None else {"past_key_values": cache}
        out = _forward(model, fresh, keep=1, use_cache=caches, **given)
        logits_av = out.logits[:, -1]
        token = int(logits_av.argmax())
        (probability,) = _probabilities(logits_av, logits_av.argmax(1))
        if math.isnan(probability):
            raise InputError(f"the logits of token {position} of the answer are not finite")
        if token in stops:
            yield Token(text.closed(), probability, closes=True)
            return
        yield Token(text.add(token, last=position == most), probability)
        everything.append(token)
        cache = getattr(out, "past_key_values", None) if caches else None
        fresh = everything if cache is None else [token]


def _forward(model: Any, ids: list[int], *, keep: int, use_cache: bool, **given: Any) -> Any:
    """One pass over ``ids``, with the logits of the last ``keep`` positions at least."""
    if "logits_to_keep" in inspect.signature(model.forward).parameters:
        given["logits_to_keep"] = keep
    return model(input_ids=torch.tensor([ids], device=model.device), use_cache=use_cache, **given)


def _probabilities(logits_av: Tensor, ids_a: Tensor) -> list[float]:
    """Probability of one token a row; NaN where a row is not finite."""
    logits_av = logits_av.float()
    losses_a = logits_av.logsumexp(1).double() - logits_av.gather(1, ids_a[:, None])[:, 0].double()
    finite_a = logits_av.isfinite().all(1)
    # Rounding can take a loss below zero.
    return list((-losses_a.clamp(min=0)).exp().masked_fill(~finite_a, math.nan).tolist())


def _limit(model: Any) -> int | None:
    """Most tokens that the model takes, where its configuration says so."""
    limit = getattr(getattr(model, "config", None), "max_position_embeddings", None)
    return limit if isinstance(limit, int) else None


class _Text:
    """What each further token adds to the decoded text.

    A character of several tokens decodes to replacement characters until its last one, so those at the end wait. The
    last token of the prompt is decoded with the answer: some tokenizers drop a space at the start of a text.
    """

    def __init__(self, tokenizer: Any, before: list[int]) -> None:
        self._tokenizer, self._ids = tokenizer, before[-1:]
        self._shown = self._decoded()

    def add(self, token: int, *, last: bool) -> str:
        self._ids.append(token)
        return self._further(self._decoded() if last else self._decoded().rstrip(_INCOMPLETE))

    def closed(self) -> str:
        """What was still waiting, and the mark of the end."""
        return self._further(self._decoded()) + END

    def _further(self, text: str) -> str:
        if len(text) <= len(self._shown):
            return ""
        added, self._shown = text[len(self._shown) :], text
        return added

    def _decoded(self) -> str:
        return str(self._tokenizer.decode(self._ids, skip_special_tokens=False, clean_up_tokenization_spaces=False))
