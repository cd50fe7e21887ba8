# make search | test | lint | clean. Everything happens in .venv, with the versions of constraints.txt.
VENV := .venv
PY := $(VENV)/bin/python

# The first Python from 3.11 to 3.13 that works: the default one, then the newest. Not used if .venv is there already.
PYTHON ?= $(shell for python in python3 python3.13 python3.12 python3.11 python; do \
	if $$python -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' >/dev/null 2>&1; then \
	echo $$python; break; fi; done)

.PHONY: search test lint clean

search: $(VENV)/run.stamp
	$(VENV)/bin/nasbench search experiments/quickstart.yaml

# The slow tests start several processes of their own, so they come one after another.
test: lint
	OMP_NUM_THREADS=1 $(PY) -m pytest -m "not slow" -n 2 --dist loadfile
	OMP_NUM_THREADS=1 $(PY) -m pytest -m slow

lint: $(VENV)/dev.stamp
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy
	$(VENV)/bin/lint-imports

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build dist *.egg-info

$(VENV)/bin/python:
	@if [ -z "$(PYTHON)" ]; then \
	echo "No Python from 3.11 to 3.13 was found: install one (for example: apt-get install python3.11 python3.11-venv," >&2; \
	echo "or pyenv install 3.12), or name it: make PYTHON=/path/to/python3.12 search" >&2; exit 1; fi
	$(PYTHON) -m venv $(VENV)

$(VENV)/run.stamp: setup.cfg pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PY) -m pip install --quiet --constraint constraints.txt "setuptools>=77"
	$(PY) -m pip install --quiet --constraint constraints.txt --no-build-isolation --editable ".[onnx]"
	touch $@

$(VENV)/dev.stamp: $(VENV)/run.stamp
	$(PY) -m pip install --quiet --constraint constraints.txt --no-build-isolation --editable ".[onnx,postgresql,dev]"
	touch $@
