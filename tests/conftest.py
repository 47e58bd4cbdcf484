"""Settings shared by all tests."""

import os

import torch
from hypothesis import settings

# One thread unless another number is asked for: two test processes do not fight for the cores.
torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))

settings.register_profile("project", derandomize=True, deadline=None, max_examples=60, database=None)
settings.load_profile("project")
