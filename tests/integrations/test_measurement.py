"""The order in which matrices are taken."""

from collections import Counter

import pytest

from gcwm_viz.integrations.measurement import spread
from gcwm_viz.updates.matrices import MatrixKey

FAMILIES = ("q_proj", "v_proj", "down_proj")


def keys(layers: int) -> list[MatrixKey]:
    return [MatrixKey(f"{layer}.{family}", layer, family, (2, 2)) for layer in range(layers) for family in FAMILIES]


@pytest.mark.parametrize("layers", [1, 2, 5, 8, 30])
def test_every_beginning_is_spread_over_families_and_layers(layers: int) -> None:
    order = spread(keys(layers))
    assert sorted(order, key=str) == sorted(keys(layers), key=str)
    for end in range(1, len(order) + 1):
        counts = Counter(key.family for key in order[:end])
        assert max(counts.values()) - min(counts[family] for family in FAMILIES) <= 1
    for family in FAMILIES:
        own = [key.layer for key in order if key.family == family]
        # Of the first 2^n layers of a family no two are closer than the even distance, by less than a layer.
        for size in (size for size in (2, 4, 8) if size <= layers / 2):
            places = sorted(own[:size])
            gaps = [after - before for before, after in zip(places, [*places[1:], places[0] + layers], strict=True)]
            assert min(gaps) >= layers // (2 * size), (family, size, places)


def test_families_of_other_sizes_are_taken_whole() -> None:
    odd = [*keys(2), MatrixKey("gate", 1, "gate", (2, 2))]
    assert Counter(spread(odd)) == Counter(odd)
