# Every target makes its own virtual environment, so that it works on a machine with nothing but Python and make.
PYTHON ?= python3
VENV ?= .venv
RUN = $(VENV)/bin/python
PYTEST_ARGS ?=

.DELETE_ON_ERROR:
.NOTPARALLEL:
.PHONY: bench clean corpus coverage demo distributions docs doors lint test test-floors test-other test-short trust

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet --upgrade pip

$(VENV)/.%: $(VENV)/bin/python pyproject.toml
	$(RUN) -m pip install --quiet --editable '.[$*]'
	@touch $@

demo: $(VENV)/.demo
	$(RUN) examples/demo.py

lint: $(VENV)/.lint $(VENV)/.test
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy skaimz

# Processes, modules and runs share what they compile.
corpus test test-short test-floors: export JAX_COMPILATION_CACHE_DIR := $(CURDIR)/.pytest_cache/jax
corpus test test-short test-floors: export JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS := 0.05

# Most of the time goes to the compiler, so here it does little. The short selection, and the suite on the oldest
# versions, run code that is optimised as users' code is. `make test XLA_FLAGS=` leaves a flag out that XLA may forget.
test: export JAX_DISABLE_MOST_OPTIMIZATIONS ?= true
test: export XLA_FLAGS ?= --xla_cpu_use_fusion_emitters=false

# Two processes: compilation dominates and does not share a core well with more.
test: $(VENV)/.test $(VENV)/.demo
	$(RUN) -m pytest -n 2 --dist worksteal $(PYTEST_ARGS)

# The same suite, with the lines that no test runs. Tracing makes it a third slower.
coverage:
	$(MAKE) test PYTEST_ARGS="--cov=skaimz --cov-report=term --cov-fail-under=95 $(PYTEST_ARGS)"

# A short selection on another Python, where that is found: on the path, or among pyenv's.
test-other:
	@for python in python3.13 "$$(pyenv root 2>/dev/null)"/versions/3.13*/bin/python3.13; do \
	  if "$$python" -c '' 2>/dev/null; then \
	    $(MAKE) VENV=.venv-3.13 PYTHON="$$python" test-short; exit $$?; \
	  fi; \
	done; echo "Python 3.13 not found: skipped"

test-short: $(VENV)/.test
	$(RUN) -m pytest -n 2 --dist worksteal -m "not slow" tests/kernels/test_identity.py tests/kernels/test_spec.py \
	  tests/inference/test_svi.py tests/sampling/test_predictive.py tests/sampling/test_store.py \
	  tests/estimators/test_regressor.py

# The whole suite on the oldest versions that pyproject.toml admits.
test-floors:
	$(PYTHON) -m venv .venv-floors
	.venv-floors/bin/python -m pip install --quiet --upgrade pip
	.venv-floors/bin/python -m pip install --quiet --constraint tests/floors.txt --editable '.[test,demo]'
	.venv-floors/bin/python -m pytest -n 2 --dist worksteal

# Each file's output is shown, and written to the fragment that the documentation includes.
bench: SHELL := /bin/bash
bench: .SHELLFLAGS := -e -o pipefail -c
bench: $(VENV)/.bench
	for name in fit sampling soak; do $(RUN) -u benchmarks/$$name.py | tee benchmarks/tables/$$name.md; done

# All problems with reference posteriors, a few minutes; `make test` fits some of them.
trust: SHELL := /bin/bash
trust: .SHELLFLAGS := -e -o pipefail -c
trust: $(VENV)/.test $(VENV)/.demo
	$(RUN) -u benchmarks/trust.py | tee benchmarks/tables/trust.md

# Numbers of every kind in every container through every door of the estimators. EXAMPLES=200000 takes hours.
doors: $(VENV)/.test
	$(RUN) -m pytest tests/estimators/test_doors.py --hypothesis-profile=long --hypothesis-show-statistics $(PYTEST_ARGS)

# What predictions make of every distribution of NumPyro; the documentation includes the table.
distributions: SHELL := /bin/bash
distributions: .SHELLFLAGS := -e -o pipefail -c
distributions: $(VENV)/.test
	$(RUN) tests/distributions.py | tee benchmarks/tables/distributions.md

# Every model of NumPyro's examples, fitted and compared with NumPyro's own run; the documentation includes the table.
# NAMES="baseball hmm" examines the models whose names begin so, and changes no table.
NAMES ?=
corpus: SHELL := /bin/bash
corpus: .SHELLFLAGS := -e -o pipefail -c
corpus: export PYTHONPATH := tests
corpus: $(VENV)/.test
	$(RUN) -m corpus.report $(NAMES) $(if $(NAMES),,| tee benchmarks/tables/corpus.md)

docs: $(VENV)/.docs
	$(RUN) -m sphinx -W --keep-going -b html docs docs/_build/html
	$(RUN) docs/check_links.py docs/_build/html
	$(RUN) docs/check_pages.py docs/_build/html

clean:
	rm -rf $(VENV) .venv-3.13 .venv-floors build docs/_build docs/gallery examples/build *.egg-info
