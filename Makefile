# Every target sets up what it needs: a machine with Python 3.11, gcc, git and a package registry is enough.
PYTHON  ?= python3
VENV    := .venv
BIN     := $(VENV)/bin
CLI     := $(BIN)/sentifuse
READY   := $(VENV)/.ready

DATASET ?=
PROFILE ?=
ROOT    ?=
WEIGHTS ?=
HEAD    ?= itin
SEED    ?= 0
SPLIT   ?= test
ARGS    ?=
CLAIM   ?=
MAIN    := itin,ctmwa,rnn_ca_embedding,logreg
COMPARE  = $(CLI) compare $(if $(DATASET),--dataset $(DATASET)) $(if $(CLAIM),--claim $(CLAIM)) $(ARGS)

# `extract`, `data` and `cache` are folders too: without .PHONY these targets would do nothing.
.PHONY: help setup demo extract train evaluate compare tables report test check stress bench-sample bench-cache bench-shared bench-regions bench-heads bench-crowd wheel clean
.DEFAULT_GOAL := help

help:  ## list the targets
	@echo "make TARGET [NAME=value ...]"; echo
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## */\1|/' | awk -F'|' '{printf "  %-10s %s\n", $$1, $$2}'
	@echo; echo "After 'make setup' the command is $(CLI) (or activate the environment: source $(BIN)/activate)."

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "sentifuse needs Python 3.11 or newer; '$(PYTHON)' is `$(PYTHON) --version`. Run: make setup PYTHON=python3.11"; exit 5; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[offline,peft,tensorboard,dev]'
	@touch $@

setup: $(READY)  ## make the environment .venv with the exact tested versions (about 6 GB, most of it torch)
	@echo "ready: $(CLI) --help"

demo: $(READY)  ## the whole job on the embedded sample: prepare, extract, train, evaluate (offline, a minute)
	@$(BIN)/python -m sentifuse.commands.demo $(ARGS)

extract: $(READY)  ## stage 1: DATASET=mvsa_single [ROOT=folder] [PROFILE=name or file] [WEIGHTS=folder] [ARGS=...]
	@$(CLI) extract $(if $(DATASET),--dataset $(DATASET)) $(if $(ROOT),--root $(ROOT)) $(if $(PROFILE),--profile $(PROFILE)) $(if $(WEIGHTS),--weights $(WEIGHTS)) $(ARGS)

train: $(READY)  ## stage 2: [HEAD=itin] [DATASET=...] [SEED=0] [ARGS=...]
	@$(CLI) train --head $(HEAD) --seed $(SEED) $(if $(DATASET),--dataset $(DATASET)) $(ARGS)

compare: $(READY)  ## train what is missing, table of heads: [DATASET=...] [ARGS="--heads itin,logreg --seeds 5 --protocol grouped"]
	@$(CLI) compare $(if $(DATASET),--dataset $(DATASET)) $(ARGS)

tables: $(READY)  ## all heads on random splits, the main heads on grouped splits and folds: [DATASET=...] [CLAIM=itin] [ARGS="--workers 2"] (resumable)
	@$(COMPARE) --protocol random
	@$(COMPARE) --protocol grouped --heads $(MAIN)
	@$(COMPARE) --protocol grouped-folds --heads $(MAIN)

evaluate: $(READY)  ## metrics of the run last trained: [SPLIT=test] [ARGS="--run folder"]
	@$(CLI) evaluate --split $(SPLIT) $(ARGS)

report: $(READY)  ## the run last trained as one HTML page: [SPLIT=test] [ARGS="--run folder"]
	@$(CLI) report --split $(SPLIT) $(ARGS)

test: $(READY)  ## the default tests (3 minutes at most on two cores)
	@OMP_NUM_THREADS=1 $(BIN)/pytest -q -n 2 --dist loadfile -m "not slow and not stress"

check: $(READY) build/typing/sentifuse  ## everything CI runs beside `make test`: ruff, mypy, rooms, slow tests, wheel
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pytest -q tests/test_rooms.py
	OMP_NUM_THREADS=1 $(BIN)/pytest -q -n 2 -m "slow or stress"

stress: $(READY)  ## the faults again and again: 200 killed writers and as many of the other faults; some minutes
	OMP_NUM_THREADS=1 $(BIN)/pytest -q -n 2 -m stress --kills 200 --flips 1000 --pages 200

build/typing/sentifuse:
	@mkdir -p build/typing && ln -sfn ../.. $@

bench-sample: $(READY)  ## what fusing gains on the sample, and on the sample with its images shuffled (3 minutes)
	@$(BIN)/python bench/sample_gain.py $(ARGS)

bench-cache: $(READY)  ## speed of the feature cache beside h5py, maps and memcpy: [ARGS="--pairs 4096"] (10 minutes, 10 GB of disk)
	@$(BIN)/python bench/cache_speed.py $(ARGS)

bench-shared: $(READY)  ## four trainings on one store larger than the memory each may take: [ARGS="--gb 4.2"]
	@$(BIN)/python bench/shared_store.py $(ARGS)

bench-regions: $(READY)  ## speed of the region detector beside the usual way to write it, on CPU and CUDA: [ARGS="--repeats 3"] (6 minutes)
	@$(BIN)/python bench/regions_speed.py $(ARGS)

bench-heads: $(READY)  ## a training step of every head, and CTMWA's beside the literal algorithm: [ARGS="--heads ctmwa"]
	@OMP_WAIT_POLICY=passive $(BIN)/python bench/heads.py $(ARGS)

bench-crowd: $(READY)  ## a student on 100,000 cached embeddings: seconds and memory; images/s of fine-tuning: [ARGS="--quick"]
	@$(BIN)/python bench/crowd_probe.py $(ARGS)
	@$(BIN)/python bench/crowd_finetune.py $(ARGS)

wheel: $(READY)  ## build the source archive and the wheel into dist/
	@rm -rf build/lib build/bdist.* && $(BIN)/python -m build --quiet && ls dist

clean:  ## remove what was built; artifacts/ and .venv/ stay
	rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -not -path './.venv/*' -prune -exec rm -rf {} +
