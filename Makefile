# The environment all targets run in, with the versions that the project is tested with; `make test VENV=path` takes another.
VENV ?= .venv
PYTHON ?= python3
PY := $(VENV)/bin/python
INSTALLED := $(VENV)/.installed

# Keras's own tests need other backends too. They get an environment of their own, because every
# import of Keras takes seconds longer where tensorflow is installed.
SUITE_VENV ?= $(VENV)-suite
SUITE_PY := $(SUITE_VENV)/bin/python
SUITE_INSTALLED := $(SUITE_VENV)/.installed
SUITE ?= --part all

.PHONY: install install-suite test keras-suite lint types check format digits

install: $(INSTALLED)

$(INSTALLED): pyproject.toml setup.py
	test -x $(PY) || $(PYTHON) -m venv $(VENV)
	$(PY) -m pip install --quiet --constraint .ci/constraints.txt torch
	$(PY) -m pip install --quiet --constraint .ci/constraints.txt --editable '.[dev]'
	touch $@

install-suite: $(SUITE_INSTALLED)

$(SUITE_INSTALLED): pyproject.toml setup.py
	test -x $(SUITE_PY) || $(PYTHON) -m venv $(SUITE_VENV)
	$(SUITE_PY) -m pip install --quiet --constraint .ci/constraints.txt torch
	$(SUITE_PY) -m pip install --quiet --constraint .ci/constraints.txt --editable '.[keras-suite]'
	touch $@

test: install
	$(PY) -m pytest

keras-suite: install-suite
	$(SUITE_PY) tests/keras_suite/run.py $(SUITE)

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
