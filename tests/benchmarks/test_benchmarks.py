"""The measurements run, and compare equal numbers, at small shapes."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from benchmarks import growth, layer, lora, machine, memory, roofline, scale, scale_table, table
from benchmarks.gpu import measure as measure_gpu
from benchmarks.inputs import QWEN3_06B, TINY, qwen3, random_update
from gcwm_viz.merging.products import tf32

MINUTE = qwen3(16, 24, 16, 8)
PAGE = "<!-- results: written by hand -->\n<!-- end of results -->\n"


@pytest.mark.parametrize("shape", [(40, 24), (24, 40)])
def test_naive_transcription_and_package_agree_in_double_precision(shape: tuple[int, int]) -> None:
    found = layer.compare(shape, 30, torch.float64)
    assert max(found[name] for name in found if name.endswith("difference")) <= layer.DOUBLE


def test_gpu_measurement_rehearses_on_the_cpu() -> None:
    result = measure_gpu(torch.device("cpu"), MINUTE, layers=2, iters=2)
    modes = [name for name in result if name.startswith("m=3, ")]
    fast = ["TF32", "bf16x3"]
    assert modes == [
        f"m=3, {mode}"
        for mode in (
            "adam float32",
            *(f"adam {name}" for name in fast),
            "exact",
            *(f"effect of {name}" for name in fast),
        )
    ]
    same = {"gamma": 0.0, "alpha": 0.0, "merged": 0.0, "of_displacement": 0.0}
    assert result["m=3, effect of TF32"] == same  # a CPU has none
    split = result["m=3, effect of bf16x3"]
    assert (split["gamma"], split["alpha"]) == (0.0, 0.0)
    assert 0 <= split["of_displacement"] < 0.1
    assert result["difference_from_processor"] == {"adam": same, "exact": same}
    assert set(result["limit_s"]) == {"float32", "TF32", "float64"}


def test_gpu_measurement_needs_torch_numpy_and_scipy_alone() -> None:
    script = """
import sys
for name in ("pandas", "pyarrow", "safetensors", "transformers", "sklearn", "streamlit", "plotly", "tqdm", "yaml"):
    sys.modules[name] = None
import benchmarks.gpu
"""
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr


def test_tf32_is_on_request_and_inside_its_block_alone() -> None:
    before = torch.backends.cuda.matmul.allow_tf32
    with tf32():
        assert torch.backends.cuda.matmul.allow_tf32
    assert torch.backends.cuda.matmul.allow_tf32 == before


def test_updates_are_seeded_and_of_the_size_that_they_say() -> None:
    assert torch.equal(random_update((60, 40), 3), random_update((60, 40), 3))
    assert float(random_update((200, 300), 1).square().mean().sqrt()) == pytest.approx(2e-3, rel=0.1)


def test_memory_is_measured_on_a_real_run(tmp_path: Path) -> None:
    found = memory.measure(layers=1, updates=2, many=2, shapes=MINUTE)
    assert 0 <= found["peak_gb"] < 2
    assert found["model"]["inputs_gb"] > 0


def test_lora_and_growth_and_products() -> None:
    assert lora.measure((40, 32), rank=4, iters=3)["exact"]["difference"] <= lora.EQUAL
    result = growth.measure(hidden=32, counts=(2, 3), sizes=(24, 32), tasks=3, iters=2)
    assert result["geometry"]["tasks"] == 3
    assert growth.exponent([1, 2, 4], [3.0, 12.0, 48.0]) == pytest.approx(2.0)
    adam, build = roofline.products({"a": (2, 3)}, updates=1, iters=9)
    assert adam == 2 * 9 * 2 * 2 * 9
    assert build == 1.5 * 2 * 2 * 9


def test_the_table_is_made_of_the_results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "RESULTS", tmp_path)
    result = {"seconds": 9.0, "start_s": 1.0, "matrices_s": 4.0, "probes_s": 4.0, "goal_s": 15.0}
    machine.write("lab", {}, result)
    assert json.loads((tmp_path / "lab.json").read_text())["machine"]["torch"]
    text = table.document(PAGE)
    assert "| first run of the lab | 9.0 s (matrices 4.0, probes 4.0) | 15 s |" in text
    assert "not yet measured" in text


def test_shapes_are_those_of_the_model() -> None:
    assert TINY.keys() == QWEN3_06B.keys()
    assert QWEN3_06B["mlp.down_proj"] == (1024, 3072)


def test_the_rate_that_made_the_times_is_found_and_the_longest_pieces_go_first() -> None:
    assert scale.fit([(flops, 0.25 + flops / 4e9) for flops in (1e8, 1e9, 7e9)]) == pytest.approx((4e9, 0.25))
    assert scale.fit([(1e9, 0.5), (4e9, 2.2), (16e9, 9.0)])[1] == 0.0, "no matrix costs less than nothing"
    assert scale.makespan([1, 2, 3, 4], 1) == 10
    assert scale.makespan([1, 2, 3, 4], 2) == 5
    assert scale.makespan([1, 1, 5], 3) == 5


def test_workers_and_their_prediction_are_measured_on_real_runs() -> None:
    """Without Ray, which has tests of its own."""
    tiny = (qwen3(8, 12, 8, 8), qwen3(24, 32, 24, 8), MINUTE)
    found = scale.measure(*tiny, layers=1, updates=2, ray=False)
    assert found["local_1"]["matrices"] == found["local_2"]["matrices"] == 7
    assert found["local_1"]["predicted_s"] > found["local_2"]["predicted_s"]
    assert found["read_bytes"] == 2 * (2 + 2) * found["parameters"], "float16 update and base, both updates"
    assert found["written_bytes"] > 8 * found["parameters"]


def test_forecasts_follow_the_counts_of_the_models() -> None:
    assert scale_table.LLAMA_70B.parameters == pytest.approx(68.5e9, rel=0.01)
    assert scale_table.QWEN3_235B.parameters == pytest.approx(233.8e9, rel=0.01)
    assert scale_table.QWEN3_235B.matrices == 94 * (4 + 1 + 3 * 128)
    one, many, endless = (scale_table.forecast(scale_table.LLAMA_70B, 3, n, 1e13, 0.0, 1e-3) for n in (1, 10, 10**6))
    assert one.compute_h == pytest.approx(10 * many.compute_h)
    assert one.compute_h / endless.compute_h == pytest.approx(one.most, rel=0.01), "the longest matrix is left"
    assert one.read_bytes == 2 * 3 * (2 + 2) * scale_table.LLAMA_70B.parameters


def test_the_document_of_scale_is_made_of_the_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "RESULTS", tmp_path)
    row = {"label": "1 local worker", "seconds": 12.0, "predicted_s": 11.0, "matrices": 21, "matrices_a_minute": 105.0}
    row["processor_s"] = 10.0
    result = {"rate_flops": 5e10, "matrix_s": 0.1, "updates": 3, "local_1": row, "journal_line_s": 0.003}
    result |= {"task_s": 0.004, "pipelined_task_s": 0.002, "written_bytes": 80, "read_bytes": 120, "parameters": 10}
    assert scale_table.document(PAGE) == PAGE, "nothing measured"
    machine.write("scale", {}, result)
    text = scale_table.document(PAGE)
    assert "| 1 local worker | 21 | 11.0 s | 12.0 s | 10.0 s | 105 |" in text
    assert "| bytes read a parameter and update | 4.0 |" in text
    assert "not yet measured" in text
