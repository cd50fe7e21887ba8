# make search | test | docs | lint | clean: everything happens in .venv, with the versions of constraints.txt.
# make litert: .venv-litert, an environment of its own that converts networks to TFLite files.
VENV := .venv
PY := $(VENV)/bin/python

# The first Python from 3.11 to 3.14 that works: the default one, then the newest. Not used if .venv is there already.
PYTHON ?= $(shell for python in python3 python3.14 python3.13 python3.12 python3.11 python; do \
	if $$python -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 14))' >/dev/null 2>&1; then \
	echo $$python; break; fi; done)

.PHONY: search test fast slow docs sweep lint litert clean

search: $(VENV)/run.stamp
	$(VENV)/bin/nasbench search experiments/quickstart.yaml

# Lint and the documentation run beside the fast tests. The slow tests come after them, for they start several processes of
# their own, some with seconds to spare; they run if anything before failed, too.
test: $(VENV)/dev.stamp $(VENV)/docs.stamp
	failed=0; \
	$(MAKE) --keep-going --jobs 2 fast lint docs || failed=1; \
	$(MAKE) slow || failed=1; \
	exit $$failed

fast: $(VENV)/dev.stamp
	OMP_NUM_THREADS=1 $(PY) -m pytest -m "not slow and not sweep" -n 2 --dist worksteal --max-worker-restart=0 --durations=25

slow: $(VENV)/dev.stamp
	OMP_NUM_THREADS=1 $(PY) -m pytest -m "slow and not sweep" --durations=25

# The documentation as a site in site/, which opens as files: site/index.html. A dead link, a misspelt word, or a name, a key or
# a command that nothing is said about fails.
docs: $(VENV)/docs.stamp
	$(VENV)/bin/codespell README.md CONTRIBUTING.md CHANGELOG.md docs nasbench nasbench_registry search_spaces controllers compression \
		experiments benchmarks
	$(PY) docs/make/make_site.py

# Every backend on every block module and on networks of many spaces: half an hour of compilers.
sweep: $(VENV)/dev.stamp
	OMP_NUM_THREADS=1 $(PY) -m pytest -m sweep

lint: $(VENV)/dev.stamp
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy
	$(VENV)/bin/lint-imports

litert: .venv-litert/run.stamp

# Torch brings what it needs, on any machine; of the others' dependencies most are for language models, and left out.
.venv-litert/run.stamp: constraints-litert.txt
	@if [ -z "$(PYTHON)" ]; then \
	echo "No Python from 3.11 to 3.14 was found: name one: make PYTHON=/path/to/python3.12 litert" >&2; exit 1; fi
	$(PYTHON) -m venv --clear .venv-litert
	.venv-litert/bin/python -m pip install --quiet --constraint constraints-litert.txt torch
	.venv-litert/bin/python -m pip install --quiet --no-deps --requirement constraints-litert.txt
	touch $@

clean:
	rm -rf $(VENV) .venv-litert site .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build dist *.egg-info

$(VENV)/bin/python:
	@if [ -z "$(PYTHON)" ]; then \
	echo "No Python from 3.11 to 3.14 was found: install one (for example: apt-get install python3.11 python3.11-venv," >&2; \
	echo "or pyenv install 3.12), or name it: make PYTHON=/path/to/python3.12 search" >&2; exit 1; fi
	$(PYTHON) -m venv $(VENV)

$(VENV)/run.stamp: setup.cfg setup.py pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PY) -m pip install --quiet --constraint constraints.txt "setuptools>=77"
	$(PY) -m pip install --quiet --constraint constraints.txt --no-build-isolation --editable ".[onnx]"
	touch $@

# Networks of timm and segmentation-models-pytorch need no torchvision, which these would bring.
$(VENV)/dev.stamp: $(VENV)/run.stamp
	$(PY) -m pip install --quiet --constraint constraints.txt --no-build-isolation --editable ".[onnx,openvino,tvm,litert,executorch,postgresql,transformers,huggingface,dev]"
	$(PY) -m pip install --quiet --constraint constraints.txt --no-deps timm segmentation-models-pytorch
	touch $@

$(VENV)/docs.stamp: $(VENV)/run.stamp
	$(PY) -m pip install --quiet --constraint constraints.txt --no-build-isolation --editable ".[onnx,docs]"
	touch $@
