# The environment all targets run in, with the versions that the project is tested with; `make test VENV=path` takes another.
VENV ?= .venv
PYTHON ?= python3
PY := $(VENV)/bin/python
INSTALLED := $(VENV)/.installed

# Keras's own tests need other backends too. They get an environment of their own, because every
# import of Keras takes seconds longer where tensorflow is installed.
LIBRARIES_VENV ?= $(VENV)-libraries
LIBRARIES_PY := $(LIBRARIES_VENV)/bin/python
LIBRARIES_INSTALLED := $(LIBRARIES_VENV)/.installed
SUITE ?= --part all
EXAMPLES ?= 2000
LIBRARY_TESTS := $(shell grep -l importorskip tests/test_*.py)

.PHONY: install install-libraries test test-libraries keras-suite fuzz lint types check format digits

install: $(INSTALLED)

$(INSTALLED): pyproject.toml setup.py
	test -x $(PY) || $(PYTHON) -m venv $(VENV)
	$(PY) -m pip install --quiet --constraint .ci/constraints.txt torch
	$(PY) -m pip install --quiet --constraint .ci/constraints.txt --editable '.[dev]'
	touch $@

install-libraries: $(LIBRARIES_INSTALLED)

$(LIBRARIES_INSTALLED): pyproject.toml setup.py
	test -x $(LIBRARIES_PY) || $(PYTHON) -m venv $(LIBRARIES_VENV)
	$(LIBRARIES_PY) -m pip install --quiet --constraint .ci/constraints.txt torch
	$(LIBRARIES_PY) -m pip install --quiet --constraint .ci/constraints.txt --editable '.[libraries]'
	touch $@

test: install
	$(PY) -m pytest

# Random programs through every pass and target; what fails is left in fuzz-failures/.
fuzz: install
	$(PY) tests/fuzz_passes.py --examples $(EXAMPLES)

keras-suite: install-libraries
	$(LIBRARIES_PY) tests/keras_suite/run.py $(SUITE)

# The tests that need more than Keras and torch; `make test` skips them.
test-libraries: install-libraries
	$(LIBRARIES_PY) -m pytest $(LIBRARY_TESTS)

lint: install
	$(PY) -m ruff format --check .
	$(PY) -m ruff check .

# mypy knows no package whose folder has another name, so it reads the built tree.
types: install
	rm -rf build/types
	$(PY) setup.py --quiet build --build-base build/base --build-lib build/types
	cd build/types && $(abspath $(PY)) -m mypy --config-file ../../pyproject.toml \
		-p keras_triton -p triton_keras_loader

check: lint types test

format: install
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .

digits: install
	KERAS_BACKEND=triton KERAS_TRITON_VERBOSE=2 $(PY) examples/digits.py
