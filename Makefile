# Everything happens in .venv, and each target does its own set-up. Long checks have targets of their own.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.ready

.PHONY: setup demo demo-seeds base test test-slow wheel-test campaign check docs clean

setup: $(STAMP)

# clip-benchmark goes without its dependencies, which take 100 MB: some tests compare figures with its own.
$(STAMP): pyproject.toml Makefile
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable ".[dev]"
	$(BIN)/python -m pip install --quiet --no-deps clip-benchmark==1.6.2 || echo "clip-benchmark cannot be installed here"
	touch $(STAMP)

demo: $(STAMP)
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/react-ray run react_ray/recipes/sample.yaml

# The demo with two more seeds, and a report over all three; runs/sample/table.md is the README's table.
demo-seeds: demo
	for seed in 1 2; do \
	  PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/react-ray run react_ray/recipes/sample.yaml seed=$$seed out=runs/sample_seed$$seed || exit; \
	done
	$(BIN)/react-ray report react_ray/recipes/sample.yaml "evaluate.other_runs=[runs/sample_seed1, runs/sample_seed2]"

# Trains the committed react_ray/sample/base_clip.safetensors again from scratch, in two halves.
base: $(STAMP)
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/react-ray customize react_ray/recipes/sample_base.yaml
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/react-ray customize react_ray/recipes/sample_base_longer.yaml

# Tests run two at a time. Those that start clusters wait for processes more than they compute, so two of them fit; the
# files are taken in this order, so that no long one comes last.
test: $(STAMP)
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m pytest -m "not slow" -n 2 --dist loadfile tests/unit
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m pytest -m "not slow" -n 2 --dist loadfile --no-loadscope-reorder tests/campaign tests/end_to_end tests/cluster

test-slow: $(STAMP)
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m pytest -m slow

# Installs the built wheel into an empty environment, and runs the demo there, outside of the clone.
wheel-test: $(STAMP)
	rm -rf build/wheel
	$(BIN)/python -m pip wheel --quiet --no-deps --wheel-dir build/wheel .
	$(PYTHON) -m venv build/wheel/env
	build/wheel/env/bin/python -m pip install --quiet build/wheel/*.whl
	cd build/wheel && PYTHONPATH= PATH="$$PWD/env/bin:$$PATH" env/bin/react-ray run recipes://sample.yaml

# Thousands of damaged and hostile inputs through every door; the last line is one JSON object.
campaign: $(STAMP)
	$(BIN)/python -m tests.campaign.run

check: $(STAMP)
	$(BIN)/ruff check react_ray jobs tests docs examples
	$(BIN)/ruff format --check react_ray jobs tests docs examples
	$(BIN)/mypy

# Builds the site of docs/ into build/site; a dead link or any other warning is an error.
docs: $(STAMP)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet

clean:
	rm -rf runs .demo
