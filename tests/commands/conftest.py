"""The tiny run of the tests of decisions."""

from tests.decide.conftest import tiny_inputs, tiny_run

__all__ = ["tiny_inputs", "tiny_run"]
