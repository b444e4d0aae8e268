# `make` lists what can be done. Needs nothing but make and Python 3.11 or newer.

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
SOURCES := models nps_cli tests
PHOTOS ?=
FIXTURES ?=
MINUTES ?= 20
ORIGINAL ?=

.DEFAULT_GOAL := help
.PHONY: help setup demo test check format lint types fuzz bench parity

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-19s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(STAMP) ## create .venv and install everything into it

$(STAMP): pyproject.toml .ci/constraints.txt
	@if [ ! -x $(BIN)/python ]; then \
		for python in $(PYTHON) python3 python3.13 python3.12 python3.11; do \
			if $$python -c 'import sys, ensurepip, venv; sys.exit(sys.version_info < (3, 11))' \
				2>/dev/null; then $$python -m venv $(VENV) && break; fi; \
		done; \
	fi
	@[ -x $(BIN)/python ] || { \
		echo "Python 3.11 or newer with its venv module is needed (Debian: apt install python3-venv);"; \
		echo "name another one with: make PYTHON=/path/to/python"; exit 1; } >&2
	@$(BIN)/python -c 'import tomllib; project = tomllib.load(open("pyproject.toml", "rb")); \
		print(*project["dependency-groups"]["dev"], sep="\n")' > $(VENV)/dev.txt
	$(BIN)/python -m pip install -q --no-compile --disable-pip-version-check \
		-c .ci/constraints.txt -r $(VENV)/dev.txt -e .
	@touch $@

demo: $(STAMP) ## two photos to a scene, a video and poses in demo/ (your own: PHOTOS="a.jpg b.jpg")
	@$(BIN)/python -m nps_cli.demo $(PHOTOS)

test: $(STAMP) ## run the tests
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n auto --maxprocesses 8

check: lint types test ## all that must be green before a commit

lint: $(STAMP) ## find mistakes and formatting that differs from ours
	@$(BIN)/ruff check $(SOURCES)
	@$(BIN)/ruff format --check $(SOURCES)

format: $(STAMP) ## put the code into our format
	@$(BIN)/ruff check --fix -q $(SOURCES)
	@$(BIN)/ruff format $(SOURCES)

types: $(STAMP) ## check the types
	@$(BIN)/mypy

fuzz: $(STAMP) ## damage files of every kind that nps reads, for MINUTES=20
	@OMP_NUM_THREADS=1 FUZZ_MINUTES=$(MINUTES) $(BIN)/python -m pytest -q -n auto tests/fuzz

bench: $(STAMP) ## time whole commands, the renderer, the alignment of cameras, the loading of data, the making of worlds and the full-size network (against a checkout: ORIGINAL=folder)
	@$(BIN)/python tests/benchmarks/startup.py
	@$(BIN)/python tests/benchmarks/render.py
	@$(BIN)/python tests/benchmarks/pose.py
	@$(BIN)/python tests/benchmarks/data.py
	@$(BIN)/python tests/benchmarks/worlds.py
	@$(BIN)/python tests/benchmarks/network.py $(if $(ORIGINAL),--original $(ORIGINAL))

parity: $(STAMP) ## compare the network with outputs of the original (FIXTURES=folder)
	@$(BIN)/python tests/benchmarks/parity.py $(FIXTURES)
