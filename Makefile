# Every target sets up .venv by itself, once; `make help` lists the targets.
SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
# 3.11 where there is one, because requirements.lock is made for it.
PYTHON ?= $(shell command -v python3.11 || echo python3)
CONFIG ?= serve_config.yaml
# Variables for any config, and those that one needs, in a file beside it: realtime.env.
ENV = config/serve.env $(wildcard $(CONFIG:.yaml=.env))
TLS ?= .tls
BIN := .venv/bin
INSTALLED := .venv/.installed
TORCH = $(shell grep '^torch==' requirements.lock)
JAVASCRIPT := tests/clients/javascript
NODE_MODULES := $(JAVASCRIPT)/node_modules/.package-lock.json
PYTHON_CLIENTS := tests/clients/python

.DEFAULT_GOAL := help
.PHONY: help serve tls-dev test check train bench bench-realtime clean lock

help:  ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 16

# A Ray of its own, even where another runs or RAY_ADDRESS names one.
serve: $(INSTALLED)  ## start the server of CONFIG (serve_config.yaml) on this machine
	$(BIN)/python -m config.check $(CONFIG)
	$(BIN)/python -m config.ray_token
	env RAY_USAGE_STATS_ENABLED=0 $$(grep -h '^[^#]' $(ENV)) $(BIN)/serve run --address local $(CONFIG)

# Its own authority: clients are told to trust it, with SSL_CERT_FILE or curl's --cacert.
tls-dev:  ## make a certificate for localhost, for config/profiles/tls.yaml
	mkdir -p $(TLS)
	umask 077 && openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 90 \
	  -subj /CN=localhost -addext subjectAltName=DNS:localhost,IP:127.0.0.1,IP:::1 \
	  -addext keyUsage=critical,digitalSignature,keyCertSign \
	  -keyout $(TLS)/key.pem -out $(TLS)/cert.pem

# Those that start Ray go one after another: each has the machine to itself.
# Without npm the tests of JavaScript clients are skipped, unless CI is true.
test: $(INSTALLED) $(PYTHON_CLIENTS)/.venv/.installed $(if $(shell command -v npm),$(NODE_MODULES))  ## run the tests
	$(BIN)/pytest --numprocesses 2 tests/unit
	$(BIN)/pytest tests/integration tests/clients

check: $(INSTALLED)  ## lint, format, types, import rules and every serve config
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(BIN)/python -m config.check

train: $(INSTALLED)  ## make the built-in model again
	$(BIN)/python -m training

bench: $(INSTALLED)  ## measure the service, and rewrite docs/benchmarks.md
	$(BIN)/python -m benchmarks

bench-realtime: $(INSTALLED)  ## measure realtime sessions, and rewrite their part of docs/benchmarks.md
	$(BIN)/python -m benchmarks realtime

clean:  ## remove .venv, caches and build leftovers; never .train
	rm -rf .venv benchmarks/.venvs $(JAVASCRIPT)/node_modules $(PYTHON_CLIENTS)/.venv .import_linter_cache .mypy_cache .pytest_cache .ruff_cache build dist *.egg-info
	find . -name __pycache__ -type d -not -path './.train/*' -prune -exec rm -rf {} +

# From a fresh environment, so that nothing lingers. torch keeps the version that the lock has: change
# it there first. --all, because pip leaves setuptools out otherwise; a suffix such as +cpu names a
# build, not a version. The libraries that a CUDA build of torch brings, torch itself pins.
lock:  ## renew requirements.lock from pyproject.toml, for Python 3.11 on Linux x86_64
	rm -rf build/lock
	$(PYTHON) -m venv build/lock
	build/lock/bin/pip install --quiet $(TORCH)
	build/lock/bin/pip install --quiet --editable '.[dev]'
	echo '# Made by `make lock`, for Python 3.11 on Linux x86_64.' > build/requirements.lock
	build/lock/bin/pip freeze --all --exclude pip --exclude-editable \
	  | sed 's/+[a-z0-9.]*$$//' >> build/requirements.lock
	mv build/requirements.lock requirements.lock
	rm -rf build

# torch goes first and alone: another build of the same version (CPU only, say) that is there stays.
$(INSTALLED): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "Glimpse needs Python 3.11 or newer; make PYTHON=python3.11, for example"; exit 1; }
	test -x $(BIN)/pip || $(PYTHON) -m venv .venv
	$(BIN)/pip install $(TORCH)
	$(BIN)/pip install --quiet --requirement requirements.lock
	$(BIN)/pip install --quiet --no-deps --no-build-isolation --editable .
	touch $@

$(NODE_MODULES): $(JAVASCRIPT)/package.json $(JAVASCRIPT)/package-lock.json
	cd $(JAVASCRIPT) && npm ci
	touch $@

# They pin older versions of what the lock has, so those come first here. All else is that of .venv.
$(PYTHON_CLIENTS)/.venv/.installed: $(PYTHON_CLIENTS)/requirements.txt | $(INSTALLED)
	rm -rf $(@D)
	$(BIN)/python -m venv --without-pip $(@D)
	$(BIN)/pip --python $(@D)/bin/python install --quiet --no-deps --requirement $<
	$(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))' \
	  > $$(echo $(@D)/lib/python*/site-packages)/shared.pth
	touch $@
