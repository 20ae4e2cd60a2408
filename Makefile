# Everything a developer or a newcomer runs. `make setup` is done by the others when it is needed.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: help setup demo test faults lint types imports check bench soak docs clean

help:
	@echo "make setup   .venv with the command wapipe"
	@echo "make demo    the whole pipeline on this machine, with WhatsApp traffic"
	@echo "make test    unit, golden, contract, property, integration and end-to-end tests on real servers; WORKERS=4 at a time"
	@echo "make faults  the fault tests in their short form: 200 kills, outages of 30 s"
	@echo "make check   lint, types and import rules"
	@echo "make docs    the tables in docs/ that are made from code"
	@echo "make soak    the fault tests in their long form, about 2.5 hours; SCALE=0.1 makes it 45 minutes"
	@echo "make bench   benchmarks as ratios, into docs/benchmarks.md by hand"
	@echo "make clean   removes .venv and caches of the checkout"

setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "wapipe needs Python 3.11 or newer; this is $$($(PYTHON) --version). Try: make PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[local,previews,dev]'
	@touch $(STAMP)

demo: setup
	$(BIN)/wapipe demo

# Most of it is waiting. Each worker starts the servers that its tests need; a file's tests stay together.
WORKERS ?= 4

test: setup
	$(BIN)/python -m pytest --numprocesses $(WORKERS) --dist loadfile --no-loadscope-reorder

faults: setup
	$(BIN)/python -m pytest tests/faults

check: lint types imports

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: setup
	$(BIN)/mypy

imports: setup
	$(BIN)/lint-imports

docs: setup
	$(BIN)/python -m tests.docs

# Outages last 600 s times SCALE, at least 30 s. Everything else: python -m tests.faults --help
SCALE ?= 1

soak: setup
	@mkdir -p build
	$(BIN)/python -m tests.faults --scale $(SCALE) --out build/soak.md

bench: setup
	$(BIN)/python -m tests.bench

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .import_linter_cache .hypothesis build *.egg-info
