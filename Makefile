PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: demo test test-parts test-analysis test-runs test-fleets test-scenarios test-engines lint format bench clean

demo: $(READY)
	@$(BIN)/locust -f locustfiles/mixed.py --headless

# Whole runs mostly wait for their load, so they share the time with everything else. How a run judges the machine it
# ran on, and when exactly it sends, is tested when nothing else runs there.
ALONE := tests/run/test_verdict.py tests/run/test_open_loop.py
FLEETS := tests/run/test_distributed.py

test: $(READY)
	@$(MAKE) --no-print-directory --jobs=4 --output-sync=target test-parts test-runs test-analysis test-fleets test-scenarios
	@$(BIN)/python -m pytest $(ALONE)

test-parts: $(READY)
	@$(BIN)/python -m pytest $(addprefix --ignore=tests/,run profiles engines analysis)

test-analysis: $(READY)
	@$(BIN)/python -m pytest tests/analysis

test-runs: $(READY)
	@$(BIN)/python -m pytest tests/run $(addprefix --ignore=,$(ALONE) $(FLEETS))

test-fleets: $(READY)
	@$(BIN)/python -m pytest $(FLEETS)

test-scenarios: $(READY)
	@$(BIN)/python -m pytest tests/profiles

# Engines that are really installed, on the CPU; each that is not is skipped, with the reason.
test-engines: $(READY)
	@$(BIN)/python -m pytest tests/engines -rs

bench: $(READY)
	@$(BIN)/python -m bench.client
	@$(BIN)/python -m bench.packings
	@$(BIN)/python -m bench.arrivals
	@$(BIN)/python -m bench.trace
	@$(BIN)/python -m bench.telemetry
	@$(BIN)/python -m bench.scaling --ui
	@$(BIN)/python -m bench.live
	@$(BIN)/python -m bench.coverage

lint: $(READY)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

format: $(READY)
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

clean:
	rm -rf $(VENV) *.egg-info .mypy_cache .ruff_cache .hypothesis build

# Rebuilt only when the requirements change; what pip says is shown only when it fails.
$(READY): requirements.txt pyproject.toml
	@echo "setting up $(VENV) (a minute or two, once)"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or later is needed, found " + sys.version.split()[0] + "; set PYTHON=python3.11")'
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/pip install --quiet --editable '.[dev]' > $(VENV)/install.log 2>&1 || { cat $(VENV)/install.log; exit 1; }
	@touch $@
