PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Every test that starts a process would compile the package again.
export PYTHONDONTWRITEBYTECODE :=
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check

# Generated files come from study, torture, bench, bench-gpu and screenshots; CONTRIBUTING.md lists the others.
.PHONY: app test test-kernels torture bench bench-gpu study screenshots docs audit setup lint format clean

app: setup            ## open the app on the lab
	$(BIN)/python -m streamlit run app.py

setup: $(VENV)/.installed

$(VENV)/.installed: requirements.txt pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) -r requirements.txt
	$(PIP) --no-deps --editable .
	touch $@

$(VENV)/.installed-dev: requirements-dev.txt $(VENV)/.installed
	$(PIP) -r requirements-dev.txt
	touch $@

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test: lint            ## every check: lint, types, tests, browser
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

test-kernels: $(VENV)/.installed-dev   ## the numerical tests under other BLAS kernels, instruction sets and threads
	$(BIN)/python -m tests.kernels

torture: $(VENV)/.installed-dev   ## the long reliability tests, bounded
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/torture tests/engines/test_cluster.py --torture

bench: $(VENV)/.installed-dev     ## speed and memory on this machine, stored in benchmarks/results
	$(BIN)/python -m benchmarks

bench-gpu: setup      ## Qwen3-8B shapes, on a machine with a GPU
	$(BIN)/python -m benchmarks.gpu

study: setup          ## the studies: their shipped tables and those of docs/findings.md; takes hours
	$(BIN)/python -m gcwm_viz lab study --out runs/study
	$(BIN)/python -m gcwm_viz lab where --out runs/where
	$(BIN)/python -m benchmarks.study runs/study --where runs/where
	$(BIN)/python -m gcwm_viz lab decide --out runs/decide
	$(BIN)/python -m gcwm_viz lab decide --smollm2 --out runs/decide-smollm2
	$(BIN)/python -m benchmarks.decide runs/decide --smollm2 runs/decide-smollm2

screenshots: $(VENV)/.installed-dev   ## docs/screenshots, from two runs of the lab
	$(BIN)/python -m gcwm_viz lab run --out runs/lab
	$(BIN)/python -m gcwm_viz attribute runs/lab
	$(BIN)/python -m gcwm_viz forecast runs/lab
	$(BIN)/python -m gcwm_viz leave-one-out runs/lab
	$(BIN)/python -m gcwm_viz lab run --sequential --out runs/seq
	$(BIN)/python -m tests.browser.screenshots --run-root runs --run lab --schemes light --out docs/screenshots

docs: $(VENV)/.installed-dev      ## the pages of docs as a site, in the folder site
	$(BIN)/python -m mkdocs build --strict

audit: $(VENV)/.installed-dev     ## known vulnerabilities of the pinned versions, where the network allows
	$(PIP) pip-audit
	$(BIN)/python -m pip_audit -r requirements.txt

format: $(VENV)/.installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) runs site .mypy_cache .ruff_cache .hypothesis
