# Two commands for newcomers: `make demo` and `make test`. Each makes the virtual environment that it needs.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
JOBS   ?= 2
SOAK_S ?= 600
FUZZ_S ?= 60
# For one of the seed programs: a build for CPUs, if pip finds one. PyPI's for Linux (TORCH=torch) brings 3 GB of CUDA.
TORCH  ?= torch==2.13.0+cpu

.PHONY: help demo seeds test lint format soak fuzz clean
help:
	@echo "make demo   train a real model, serve it, send it the whole test set over HTTP"
	@echo "make seeds  the programs of the seed documents, one after another over HTTP"
	@echo "make test   lint, types, floor plan and all tests"
	@echo "make lint   only ruff, mypy, import-linter and the size limits"
	@echo "make bench  Eagleray beside its peers, interleaved, with ratios (about 27 minutes; needs wrk)"
	@echo "make fuzz   what strangers can send, fuzzed for a minute each"
	@echo "make soak   the fault tests again and again for 10 minutes"

$(BIN)/.checked:
	@command -v $(PYTHON) >/dev/null || { echo "$(PYTHON) is missing. On Debian: apt-get install python3 python3-venv"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Eagleray needs Python 3.11 or newer; $(PYTHON) is `$(PYTHON) --version`. Give another: make PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
	  { echo "Python's venv module is missing. On Debian: apt-get install python3-venv"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(BIN)/.dev: $(BIN)/.checked pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	@touch $@

$(BIN)/.demo: $(BIN)/.checked pyproject.toml
	@test -e $(BIN)/.dev || $(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[demo]'
	@touch $@

$(BIN)/.seeds: $(BIN)/.checked pyproject.toml
	@test $(BIN)/.dev -nt pyproject.toml || $(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[seeds]'
	@touch $@

$(BIN)/.torch: $(BIN)/.checked
	@if problem=$$($(BIN)/python -m pip install --quiet --disable-pip-version-check '$(TORCH)' 2>&1); then :; \
	elif echo "$$problem" | grep -q "No matching distribution"; then \
	  echo "pip finds no $(TORCH): the GPU model of the seed programs runs by NumPy, and a test of it is skipped"; \
	else echo "$$problem" >&2; exit 1; fi
	@touch $@

demo: $(BIN)/.demo
	$(BIN)/python examples/digits/demo.py

seeds: $(BIN)/.seeds $(BIN)/.torch
	$(BIN)/python examples/seeds/run.py $(SEEDS)

lint: $(BIN)/.dev
	$(BIN)/ruff check src tests bench examples
	$(BIN)/ruff format --check src tests bench examples
	$(BIN)/mypy src/eagleray
	$(BIN)/lint-imports --no-cache
	$(BIN)/python -m pytest -q tests/unit/test_structure.py

test: lint $(BIN)/.torch
	# By file: the tests of a module share its instance, and some come in order.
	$(BIN)/python -m pytest -n $(JOBS) --dist loadfile tests

format: $(BIN)/.dev
	$(BIN)/ruff check --fix src tests bench examples
	$(BIN)/ruff format src tests bench examples

soak: $(BIN)/.dev
	end=$$(( $$(date +%s) + $(SOAK_S) )); while [ $$(date +%s) -lt $$end ]; do SEED=$$(date +%s) CRASH_EVERY_POINT=1 ROLLOUTS=100 SOAK_STREAM_MEGABYTES=10000 $(BIN)/python -m pytest -q tests/fault || exit 1; done

fuzz: $(BIN)/.dev
	for name in http websocket wire typed trace; do $(BIN)/python -m tests.fuzz.run $$name -max_len=4096 -timeout=10 -rss_limit_mb=1024 -max_total_time=$(FUZZ_S) || exit 1; done

clean:
	rm -rf $(VENV) .venvs .mypy_cache .ruff_cache .pytest_cache .hypothesis

-include bench/Makefile.inc tests/compat/Makefile.inc
