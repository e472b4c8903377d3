# Two commands set everything up: `make demo` and `make test`. `make help` lists the rest.
#
#   PYTHON=python3.12 make test          another interpreter (3.11 to 3.13)
#   WORKERS=8 make test                  test processes beside each other
#   PIP_FLAGS='--index-url URL' make     another package index, for example one with torch for CPUs only

PYTHON ?= python3
VENV ?= .venv
PIP_FLAGS ?=
PYTEST_FLAGS ?=
WORKERS ?= 2
BIN := $(VENV)/bin
# Another interpreter is another environment: its version is part of the stamp's name.
VERSION := $(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])')
STAMP := $(VENV)/.installed-$(VERSION)

.DEFAULT_GOAL := help
.PHONY: help demo test soak docs check format bench clean

help:  ## what there is to make
	@grep -E '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /\1\t/' | expand -t 10

demo: $(STAMP)  ## name the sample pictures by 40 words; ends with out/demo/contact-sheet.png and .html
	$(BIN)/diptych demo --out out/demo

test: check docs  ## formatting, lint, strict types, docs, tests, doctests, the commands of README and tutorials
	$(BIN)/pytest -n $(WORKERS) --dist loadfile $(PYTEST_FLAGS)

soak: $(STAMP)  ## the long kill and load tests, which `make test` leaves out
	$(BIN)/pytest -m soak --timeout 3600 $(PYTEST_FLAGS)

docs: $(STAMP)  ## the documentation site, in out/site; fails on a broken link
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict

check: $(STAMP)  ## formatting, lint, spelling and types alone
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/codespell src tests docs recipes benchmarks README.md CONTRIBUTING.md CHANGELOG.md
	$(BIN)/mypy

format: $(STAMP)  ## rewrite the files as `check` wants them
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

bench: $(STAMP)  ## the figures that need no peer and no download
	$(BIN)/python benchmarks/startup.py

clean:  ## remove what was built here; leaves runs/ and trained models alone
	rm -rf $(VENV) out dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find src tests recipes benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +

# Reinstalled when either file changes. The stamp is written last, so a broken-off installation starts again.
$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; \
	  sys.exit(0 if (3, 11) <= v < (3, 14) else \
	  "Diptych needs Python 3.11 to 3.13, and $(PYTHON) is %d.%d: say make PYTHON=python3.12" % v)'
	@$(BIN)/python --version 2>/dev/null | grep -q '^Python $(VERSION)\.' && test -x $(BIN)/pip \
	  || $(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet $(PIP_FLAGS) -c constraints.txt -e '.[dev]'
	@touch $@
