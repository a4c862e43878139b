# make demo, make test: each sets up what it needs first.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# Extra arguments, such as make demo ARGS=--json
ARGS ?=

# Where this is set, each of the many hundreds of processes that the tests start would compile every module anew.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help setup examples demo dev test test-brokers faults faults-long faults-mutants faults-matrix properties lint types check bench-core clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

$(STAMP): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; try make PYTHON=python3.12")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing into $(VENV) ..." >&2
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

setup: $(STAMP) ## install the project and its tools into .venv

examples: $(STAMP) ## carry out every example on real workers, its failures included, and check each
	@$(BIN)/orchestrator examples $(ARGS)

demo: $(STAMP) ## fulfil 830 orders through a killed worker, and check every invariant
	@$(BIN)/orchestrator demo $(ARGS)

dev: $(STAMP) ## keep PostgreSQL, a broker, workers and beats up in the foreground
	@$(BIN)/orchestrator dev $(ARGS)

# Test files run side by side, each process with servers of its own: most of them wait most of the time. JOBS=1 is one
# after the other.
JOBS ?= $(shell n=$$(nproc 2>/dev/null || echo 2); echo $$((n < 4 ? n : 4)))

test: $(STAMP) ## run the tests, on real servers of their own
	@$(BIN)/python -m pytest --numprocesses $(JOBS) --dist loadfile --no-loadscope-reorder $(ARGS)

# With servers of your own, by URL: what neither ends them nor looks into them. Else also what does.
BROKER ?=
POOLER ?=
BY_URL := tests/brokers/test_pooler.py tests/integration/test_worker_waits.py tests/integration/test_worker_sagas.py
OF_OURS := tests/brokers tests/integration/test_worker_waits.py tests/integration/test_worker_sagas.py \
	tests/integration/test_worker_deaths.py tests/integration/test_worker_messages.py \
	tests/integration/test_worker_losses.py::test_steps_whose_messages_the_broker_forgot_are_published_again \
	tests/integration/test_worker_losses.py::test_a_backlog_behind_busy_workers_is_not_published_again

test-brokers: $(STAMP) ## tests on RabbitMQ, PgBouncer, TLS and Sentinels: Debian's packages, or BROKER=amqp://.. POOLER=..
	@BROKER='$(or $(BROKER),amqp)' POOLER='$(or $(POOLER),1)' $(BIN)/python -m pytest \
		$(if $(findstring ://,$(BROKER)$(POOLER)),,--numprocesses $(JOBS) --dist loadfile --no-loadscope-reorder) \
		$(if $(findstring ://,$(BROKER)$(POOLER)),$(BY_URL),$(OF_OURS)) $(ARGS)

# SEED repeats a run; without one it takes a new one and tells it. BROKER=amqp|tls|sentinel and POOLER=1 choose other servers.
FAULTS = PYTHONPATH=tests/faults:tests $(BIN)/python -m fault_suite $(if $(SEED),--seed $(SEED))

faults: $(STAMP) ## hurt a working stack in every way for five minutes, and check every promise: make faults SEED=7
	@$(FAULTS) $(ARGS)

faults-long: $(STAMP) ## every fault, and 200 runs of faults at random: some five hours
	@$(FAULTS) --tier long --mixed 200 $(ARGS)

faults-mutants: $(STAMP) ## engines that are broken on purpose: the checker must catch each
	@$(FAULTS) --mutants $(ARGS)

faults-matrix: $(STAMP) ## every fault on the product's own timings; writes docs/crash-matrix.md, or one beside it
	@$(FAULTS) --tier long --defaults --page docs/crash-matrix$(if $(BROKER),-$(BROKER))$(if $(POOLER),-pooler).md $(ARGS)

# How many random workflows `make properties` draws, and from what; without a seed it takes a new one and tells it.
N ?= 100
SEED ?=

properties: $(STAMP) ## N random workflows from SEED on real workers, against a reference: make properties N=500 SEED=7
	@PYTHONPATH=tests/properties:tests $(BIN)/python -m random_workflows --count $(N) $(if $(SEED),--seed $(SEED)) $(ARGS)

lint: $(STAMP) ## ruff: style and mistakes
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

types: $(STAMP) ## mypy, strict
	@$(BIN)/mypy

check: lint types test ## what CI checks, but for test-brokers

bench-core: $(STAMP) ## figures against plain Celery, in one run
	@$(BIN)/python -m benchmarks.core $(ARGS)

clean: ## remove the virtual environment and caches
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache build dist
