"""``python -m tests.kernels [SETTING …]``: the tests whose outcome hangs on rounding, under other kernels and threads.

OpenBLAS (NumPy, SciPy), MKL (PyTorch) and PyTorch's own loops take other instructions on other machines, add in another
order, and so round otherwise. Here they are told to by environment variables, in a process for each setting. What a
machine cannot do or refuses is said: the line shows the kernels that ran, not those that were asked for.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import time

TESTS = (
    *("tests/linalg", "tests/geometry", "tests/merging", "tests/signals", "tests/decide"),
    *(
        "tests/continual/test_matrix.py",
        "tests/continual/test_memory_budget.py",
        "tests/continual/test_adapter_runs.py",
    ),
    *("tests/updates/test_update_sources.py", "tests/export/test_adapter.py", "tests/studies/test_regate.py"),
    *("tests/probes/test_behaviour.py", "tests/probes/test_choices_and_texts.py", "tests/probes/test_scores.py"),
)
KERNELS = {
    "own": {},
    "sse3": {"OPENBLAS_CORETYPE": "Prescott", "MKL_CBWR": "COMPATIBLE", "ATEN_CPU_CAPABILITY": "default"},
    "sse4": {"OPENBLAS_CORETYPE": "Nehalem", "MKL_CBWR": "SSE4_2", "ATEN_CPU_CAPABILITY": "default"},
    "avx": {"OPENBLAS_CORETYPE": "Sandybridge", "MKL_CBWR": "AVX", "ATEN_CPU_CAPABILITY": "default"},
    "avx2": {"OPENBLAS_CORETYPE": "Haswell", "MKL_CBWR": "AVX2", "ATEN_CPU_CAPABILITY": "avx2"},
    "avx512": {"OPENBLAS_CORETYPE": "SkylakeX", "MKL_CBWR": "AVX512", "ATEN_CPU_CAPABILITY": "avx512"},
}
"""By the instructions asked for; "own" is what the libraries choose on this machine."""
SETTINGS = {
    f"{name}-{count}": instructions
    | dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), count)
    for name, instructions in KERNELS.items()
    for count in ("1", "2")
}
"""Every kernel with one thread and with two."""
ASK = """
import json, numpy, scipy.linalg, threadpoolctl, torch
x = torch.eye(64, dtype=torch.float64)
(x @ x).exp(), x.numpy() @ x.numpy(), scipy.linalg.cholesky(x.numpy())
pools = threadpoolctl.threadpool_info()
print(json.dumps({
    "OpenBLAS": sorted({pool["architecture"] for pool in pools if pool["internal_api"] == "openblas"}),
    "PyTorch": torch.backends.cpu.get_cpu_capability(), "threads": torch.get_num_threads(),
}))
"""


def kernels(environment: dict[str, str]) -> str | None:
    """The kernels that run under ``environment``, in words; None where the machine cannot run them."""
    asked = subprocess.run(
        [sys.executable, "-c", ASK], env=environment | {"MKL_VERBOSE": "1"}, capture_output=True, text=True, check=False
    )
    if asked.returncode:
        return None
    found = json.loads(asked.stdout.splitlines()[-1])
    branch = re.search(r"CNR:(\w+)", asked.stdout)
    return (
        f"OpenBLAS {'/'.join(found['OpenBLAS']) or 'none'}, MKL CBWR {branch[1] if branch else 'none'}, "
        f"PyTorch {found['PyTorch']}, threads {found['threads']}"
    )


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.kernels", description=__doc__)
    parser.add_argument("settings", nargs="*", metavar="SETTING", help=f"[all] {', '.join(SETTINGS)}")
    parser.add_argument("--tests", nargs="+", default=TESTS, metavar="FILE", help="[those of rounding]")
    options = parser.parse_args()
    unknown = set(options.settings) - set(SETTINGS)
    if unknown:
        parser.error(f"expected settings among {', '.join(SETTINGS)}, found {', '.join(sorted(unknown))}")
    failed, seen = 0, dict[str, str]()
    for name in options.settings or SETTINGS:
        environment = os.environ | {"OMP_WAIT_POLICY": "passive"} | SETTINGS[name]  # a waiting thread frees its core
        words = kernels(environment)
        if words is None or words in seen:
            print(
                f"{name}: {'not on this machine' if words is None else f'the same kernels as {seen[words]}'}",
                flush=True,
            )
            continue
        seen[words] = name
        begin = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-m", "pytest", *options.tests],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        lines = done.stdout.splitlines() or done.stderr.splitlines() or ["no output"]
        print(f"{name}: {lines[-1].strip('= ')} ({words}; {time.perf_counter() - begin:.0f} s)", flush=True)
        if done.returncode:
            failed += 1
            print(*(f"  {line}" for line in lines if re.match("FAILED|ERROR|E  ", line)), sep="\n", flush=True)
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
