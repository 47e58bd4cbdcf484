import torch

from gcwm_viz.experiments.corpus import IGNORED, Corpus

PAIRS = [([5, 6], [7]), ([5], [8, 9, 4]), ([6], [4])]


def test_pairs_are_padded_on_the_right_and_labelled_on_the_answer() -> None:
    corpus = Corpus(PAIRS, pad=3)
    assert corpus.ids.tolist() == [[5, 6, 7, 3], [5, 8, 9, 4], [6, 4, 3, 3]]
    _ = IGNORED
    assert corpus.labels.tolist() == [[_, _, 7, _], [_, 8, 9, 4], [_, 4, _, _]]
    assert len(corpus) == 3


def test_a_batch_is_as_wide_as_its_longest_pair() -> None:
    corpus = Corpus(PAIRS, pad=3, weights=torch.tensor([1.0, 0.0, 1.0]))
    ids, labels = corpus.sample(50, torch.Generator().manual_seed(0))
    assert ids.shape == labels.shape == (50, 3)
    assert {tuple(row) for row in ids.tolist()} == {(5, 6, 7), (6, 4, 3)}
