# `make` lists what can be done. Needs nothing but make and Python 3.11 or newer.

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
SOURCES := models nps_cli tests
PHOTOS ?=
FIXTURES ?=
ORIGINAL ?=
# Of train-embedded: tiny rehearses it on a CPU; what worlds are made of; where the run is kept.
SIZE ?= full
MINUTES ?= 10
TEXTURES ?=
PANORAMAS ?=
MESHES ?=
WHEELS ?=
RUN ?= runs/embedded-$(SIZE)
PACKED ?= runs/packed-$(SIZE)
LOAD ?= 62
SETTINGS = $(if $(filter tiny,$(SIZE)),--preset embedded-tiny --score 4 --log-every 5,--preset embedded --score 64)

.DEFAULT_GOAL := help
.PHONY: help setup demo test check format lint types bench parity
.PHONY: train-embedded train-embedded-pack train-embedded-home train-embedded-wheels

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

bench: $(STAMP) ## time the renderer, the alignment of cameras, the loading of data, the making of worlds and the full-size network (against a checkout: ORIGINAL=folder)
	@$(BIN)/python tests/benchmarks/render.py
	@$(BIN)/python tests/benchmarks/pose.py
	@$(BIN)/python tests/benchmarks/data.py
	@$(BIN)/python tests/benchmarks/worlds.py
	@$(BIN)/python tests/benchmarks/network.py $(if $(ORIGINAL),--original $(ORIGINAL))

parity: $(STAMP) ## compare the network with outputs of the original (FIXTURES=folder)
	@$(BIN)/python tests/benchmarks/parity.py $(FIXTURES)

train-embedded: train-embedded-pack ## train the embedded network for MINUTES, and go on next time (SIZE=tiny on a CPU; TEXTURES=folder ...: docs/embedded.md)
	@$(BIN)/python $(PACKED)/load1/start.py --minutes $(MINUTES)
	@$(MAKE) -s train-embedded-home

train-embedded-pack: $(STAMP) ## only pack a slice, for a machine without network: PACKED/load1, load2, ...
	@rm -rf $(PACKED)/load* $(PACKED)/work
	@$(BIN)/python -m nps_cli.carry pack $(PACKED) --limit $(LOAD) --run $(RUN) --settings="$(SETTINGS)" \
		$(if $(TEXTURES),--textures $(TEXTURES)) $(if $(PANORAMAS),--panoramas $(PANORAMAS)) \
		$(if $(MESHES),--meshes $(MESHES)) $(if $(WHEELS),--wheels $(WHEELS))

train-embedded-home: $(STAMP) ## only take home what a slice left in PACKED/work/out, for the next one
	@$(BIN)/python -m nps_cli.carry home $(PACKED)/work/out --run $(RUN)

PYTHON_THERE ?= 3.12
PLATFORMS = $(foreach glibc,28 27 17,--platform manylinux_2_$(glibc)_x86_64) --platform manylinux2014_x86_64
train-embedded-wheels: $(STAMP) ## only fetch the packages that a machine with nothing but PyTorch lacks, for Python PYTHON_THERE
	@$(BIN)/python -m pip download -q --only-binary=:all: --implementation cp \
		--python-version $(PYTHON_THERE) $(PLATFORMS) -d runs/wheels \
		jaxtyping pillow rich safetensors typer
