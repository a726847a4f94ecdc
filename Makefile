# One command in, one command out. PYTHON chooses the interpreter, BACKGROUNDS a folder of photos for the benchmark.
PYTHON ?= python3
FLIGHT := .venv-flight
DEV := .venv
INSTALL := -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: demo test check bench bench-training setup clean

demo: $(FLIGHT)/.installed  ## install the flight package alone and fly the shipped demo flight
	$(FLIGHT)/bin/aerial-runtime --camera demo

test: check  ## all checks and tests, as CI runs them
	$(DEV)/bin/pytest

check: setup
	$(DEV)/bin/ruff check .
	$(DEV)/bin/ruff format --check .
	$(DEV)/bin/mypy
	$(DEV)/bin/lint-imports

bench: setup  ## speed of scenes, models and the whole pipeline, on this machine
	$(DEV)/bin/python tests/bench/bench_scenes.py $(if $(BACKGROUNDS),--backgrounds $(BACKGROUNDS))
	$(DEV)/bin/python tests/bench/bench_pipeline.py

bench-training: setup  ## speed of training beside its data, 0 to 4 workers: a quarter of an hour
	$(DEV)/bin/python tests/bench/bench_training.py $(if $(BACKGROUNDS),--backgrounds $(BACKGROUNDS))

setup: $(DEV)/.installed

$(FLIGHT)/.installed: pyproject.toml constraints.txt $(shell find runtime -type f -not -name '*.pyc')
	$(PYTHON) -m venv $(FLIGHT)
	$(FLIGHT)/bin/python $(INSTALL) '.[cpu]'
	@touch $@

$(DEV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(DEV)
	$(DEV)/bin/python $(INSTALL) --editable '.[dev]'
	@touch $@

clean:
	rm -rf $(FLIGHT) $(DEV)
