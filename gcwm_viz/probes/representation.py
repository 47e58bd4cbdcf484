"""Linear probes on mean-pooled hidden states, layer by layer.

Layer 0 is the embedding output, layer k the output of decoder block k (the last one as transformers gives it, after
the final norm). Each probe is a standardised logistic regression under stratified k-fold cross-validation: held-out
accuracy in [0,1], higher = more linearly readable; `chance` is the share of the most frequent class.

Shape suffixes: n texts, l sequence length, d hidden size.
"""

import math
import warnings
from collections import Counter
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gcwm_viz.errors import InputError
from gcwm_viz.probes.encoding import encode_prompt
from gcwm_viz.probes.tasks import LabelledTask
from gcwm_viz.statistics.means import share_error

FOLDS = 5
REGULARISATION = 0.1
"""C of the logistic regression, the inverse of its strength."""


class RepresentationProbe:
    """Labelled sets encoded and split into folds once, and scored on many checkpoints.

    A smallest class of fewer than :data:`FOLDS` texts gives as many folds as it has texts.
    """

    def __init__(self, tokenizer: Any, tasks: Sequence[LabelledTask], *, batch_size: int = 128) -> None:
        self.tasks = list(tasks)
        self.batch_size = batch_size
        pad = tokenizer.pad_token_id
        self._pad = int(pad if pad is not None else tokenizer.eos_token_id or 0)
        self._ids = [[encode_prompt(tokenizer, text) for text in task.texts] for task in self.tasks]
        for task, rows in zip(self.tasks, self._ids, strict=True):
            if any(not row for row in rows):
                raise InputError(f"labelled set {task.name!r}: expected at least one token in every text, found none")
        self._targets = [np.unique(task.labels, return_inverse=True)[1] for task in self.tasks]

    @cached_property
    def _splits(self) -> list[list[tuple[np.ndarray, np.ndarray]]]:
        """Of each task, (train, test) of each fold. Not needed to check probes, which need not import scikit-learn."""
        from sklearn.model_selection import StratifiedKFold

        splits = []
        for target in self._targets:
            folds = max(2, min(FOLDS, int(np.bincount(target).min())))
            splitter = StratifiedKFold(n_splits=folds, shuffle=True, random_state=0)
            splits.append(list(splitter.split(np.zeros(len(target)), target)))
        return splits

    def batch_shapes(self) -> list[tuple[int, int]]:
        """(rows, tokens) of every batch that :meth:`score` runs, padding counted."""
        size = self.batch_size
        ordered = [sorted(map(len, rows)) for rows in self._ids]
        batches = [lengths[first : first + size] for lengths in ordered for first in range(0, len(lengths), size)]
        return [(len(batch), batch[-1]) for batch in batches]

    @torch.no_grad()
    def pooled(
        self, model: torch.nn.Module, rows: Sequence[Sequence[int]], device: str | torch.device = "cpu"
    ) -> Tensor:
        """(layers + 1, n, d) float32 on the CPU: hidden states averaged over a text's own tokens."""
        order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
        parts = []
        was_training = model.training
        model.eval()
        for first in range(0, len(order), self.batch_size):
            picked = order[first : first + self.batch_size]
            length = max(len(rows[i]) for i in picked)
            ids = torch.full((len(picked), length), self._pad)
            mask_nl = torch.zeros((len(picked), length), dtype=torch.int64)
            for k, i in enumerate(picked):
                ids[k, : len(rows[i])] = torch.tensor(list(rows[i]))
                mask_nl[k, : len(rows[i])] = 1
            mask_nl = mask_nl.to(device)
            # The decoder alone, without the logits of the vocabulary.
            inner = getattr(model, "base_model", model)
            states = inner(
                input_ids=ids.to(device), attention_mask=mask_nl, output_hidden_states=True, use_cache=False
            ).hidden_states
            weight_nl1 = (mask_nl / mask_nl.sum(1, keepdim=True)).unsqueeze(-1)
            # torch.where, since a non-finite state at a padding position times 0 is NaN.
            parts.append(
                torch.stack([torch.where(weight_nl1 > 0, s.float() * weight_nl1, 0.0).sum(1) for s in states]).cpu()
            )
        model.train(was_training)
        pooled = torch.cat(parts, dim=1)
        restored = torch.empty_like(pooled)
        restored[:, torch.tensor(order)] = pooled
        return restored

    def score(self, model: torch.nn.Module, device: str | torch.device = "cpu") -> list[dict[str, Any]]:
        """Rows {dataset, layer, accuracy, se, n, chance}; accuracy and se are NaN where states are not finite.

        se is the binomial standard error over the n held-out predictions (each text is predicted once).
        """
        rows = []
        for task, ids, target, splits in zip(self.tasks, self._ids, self._targets, self._splits, strict=True):
            chance = max(Counter(task.labels).values()) / len(task)
            for layer, states_nd in enumerate(self.pooled(model, ids, device)):
                accuracy = self._accuracy(states_nd.double().numpy(), target, splits)
                score = {"accuracy": accuracy, "se": share_error(accuracy, len(task)), "n": len(task)}
                rows.append({"dataset": task.name, "layer": layer, **score, "chance": chance})
        return rows

    def _accuracy(
        self, states_nd: np.ndarray, target: np.ndarray, splits: list[tuple[np.ndarray, np.ndarray]]
    ) -> float:
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.linear_model import LogisticRegression
        from sklearn.preprocessing import StandardScaler

        if not np.isfinite(states_nd).all():
            return math.nan
        correct = 0
        for train, test in splits:
            scaler = StandardScaler().fit(states_nd[train])
            classifier = LogisticRegression(C=REGULARISATION, max_iter=200, tol=1e-3, random_state=0)
            with warnings.catch_warnings():
                # Held-out accuracy does not depend on the last decimals of the weights.
                warnings.simplefilter("ignore", ConvergenceWarning)
                classifier.fit(scaler.transform(states_nd[train]), target[train])
            correct += int((classifier.predict(scaler.transform(states_nd[test])) == target[test]).sum())
        return correct / len(target)
