# Concord. Needs Python 3.11 and make; `make demo` does the rest.
#
#   make setup   the environment in .venv, locked by constraints.txt
#   make demo    a federation of five members on this machine, start to verified release
#   make observe a federation beside a real Prometheus: targets, rules, and every expression of every dashboard
#   make prometheus  Debian's Prometheus with promtool, for tests and `make observe`, where it may be installed
#   make postgresql  Debian's PostgreSQL, for tests, where it may be installed
#   make test    every test but those that targets below name
#   make check   style, types, import contracts, stubs, docs
#   make pages-test   every command of README, tutorial, how-to pages and runbooks, typed; the examples, whole; and the notebook
#   make images-test   the images' install steps, replayed, and both services from them
#   make gpu-test   jobs on an NVIDIA GPU: what they are given, see and give back; for a machine that has one
#   make bench   one JSON line for each benchmark, against the peer it names
#   make soak    the tests that are too long or too large for every day; up to 30 GB of disk
#   make docs    the documentation as a site, in build/site
#   make heart DATA=folder   FLamby's Heart Disease table through a real federation
#   make clean   removes .venv and what the tools leave
#   make help    these lines
#
# Tests run in TEST_PROCESSES processes (2), the tests of one file in one of them.
# More flags for pip go in PIP_FLAGS, e.g. an index that has torch's CPU build.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
PIP_FLAGS ?=
TEST_PROCESSES ?= 2
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/installed
CHECKED := benchmarks coordinator docs examples federation helm models node_agent protos tests

# Flower and ray report usage unless they are told not to. Nothing here does.
export FLWR_TELEMETRY_ENABLED := 0
export FLWR_DISABLE_UPDATE_CHECK := 1
export RAY_USAGE_STATS_ENABLED := 0
export NO_MKDOCS_2_WARNING := 1

.PHONY: setup sandbox prometheus postgresql demo observe heart test pages-test images-test gpu-test soak check docs bench clean help
.DEFAULT_GOAL := demo

setup: $(STAMP) sandbox

$(STAMP): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "Concord needs Python 3.11 or newer; install it, or name one: make PYTHON=/path/to/python3.11" >&2; exit 2; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "$(PYTHON) is older than Python 3.11; name another: make PYTHON=/path/to/python3.11" >&2; exit 2; }
	@test -x $(BIN)/python || "$(PYTHON)" -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(PIP_FLAGS) -c constraints.txt -e ".[dev]"
	@touch $@

# Never fails: without bubblewrap a node refuses to train unless its own policy permits it, and says so.
sandbox:
	@command -v bwrap >/dev/null 2>&1 || { \
		if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then \
			{ apt-get install -y -qq bubblewrap || { apt-get update -qq && apt-get install -y -qq bubblewrap; }; } >/dev/null 2>&1; \
		fi; \
		command -v bwrap >/dev/null 2>&1 || \
			echo "bubblewrap is not installed, so training runs without a sandbox. Install it: sudo apt-get install bubblewrap" >&2; \
	}

# For tests and `make observe`, which fail without it.
prometheus:
	@command -v promtool >/dev/null 2>&1 || { \
		if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then \
			export RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive; \
			{ apt-get install -y -qq --no-install-recommends prometheus || { apt-get update -qq && \
				apt-get install -y -qq --no-install-recommends prometheus; }; } >/dev/null 2>&1; \
		fi; \
		command -v promtool >/dev/null 2>&1 || \
			echo "Prometheus is not installed, so its tests fail. Install it: sudo apt-get install prometheus" >&2; \
	}

# For tests, which fail without it. They start a server of their own.
postgresql:
	@ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || command -v initdb >/dev/null 2>&1 || { \
		if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then \
			export RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive; \
			{ apt-get install -y -qq --no-install-recommends postgresql || { apt-get update -qq && \
				apt-get install -y -qq --no-install-recommends postgresql; }; } >/dev/null 2>&1; \
		fi; \
		ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || \
			echo "PostgreSQL is not installed, so its tests fail. Install it: sudo apt-get install postgresql" >&2; \
	}

demo: setup
	@exec $(BIN)/python -m examples.demo

observe: setup prometheus
	@exec $(BIN)/python -m examples.observe

heart: setup
	@test -n "$(DATA)" || { echo "Say where the four files of UCI Heart Disease are: make heart DATA=folder" >&2; exit 2; }
	@exec $(BIN)/python -m examples.heart --data "$(DATA)"

test: setup prometheus postgresql
	@exec $(BIN)/python -m pytest -n $(TEST_PROCESSES) --dist loadfile --no-loadscope-reorder

pages-test: setup prometheus postgresql
	@exec $(BIN)/python -m pytest -m "pages and not soak" tests/e2e

images-test: setup
	@exec $(BIN)/python -m pytest -m images tests/images

gpu-test: setup
	@exec $(BIN)/python -m pytest -m gpu -s tests/gpu

soak: setup
	@exec $(BIN)/python -m pytest -m soak -s --timeout 7200

check: setup
	$(BIN)/ruff check $(wildcard $(CHECKED))
	$(BIN)/ruff format --check $(wildcard $(CHECKED))
	$(BIN)/mypy
	$(BIN)/python -m pytest tests/unit/repo

docs: setup
	$(BIN)/mkdocs build --strict

bench: setup
	@exec $(BIN)/python -m benchmarks

help:
	@sed -n '/^#   make/s/^#//p' $(firstword $(MAKEFILE_LIST))

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find $(wildcard $(CHECKED)) -name __pycache__ -type d -prune -exec rm -rf {} +
