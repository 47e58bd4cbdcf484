"""Settings shared by all tests."""

import torch
from hypothesis import settings

# One thread: sums are taken in the same order on every machine, and two test processes do not fight for the cores.
torch.set_num_threads(1)

settings.register_profile("project", derandomize=True, deadline=None, max_examples=60, database=None)
settings.load_profile("project")
