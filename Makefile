# oomwatchd: build, run, test, install. `make help` lists the targets.
PYTHON ?= python3
VENV := .venv
SUDO := $(if $(filter 0,$(shell id -u)),,sudo)
apt_install = { $(SUDO) apt-get update -q && $(SUDO) env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends $(1); }
APT_VM := qemu-system-x86 qemu-utils mmdebstrap lz4 e2fsprogs
APT_BUILD := gcc pkg-config libsystemd-dev python3-dev python3-venv

.DEFAULT_GOAL := help
.PHONY: help venv run test test-vm check clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

venv: $(VENV)/.stamp ## .venv/bin/oomwatchd and .venv/bin/oomwatchctl, for trying and developing

$(VENV)/.stamp: pyproject.toml
	@pkg-config --exists libsystemd 2>/dev/null && command -v gcc >/dev/null \
	    && $(PYTHON) -c 'import ensurepip, sysconfig, os; assert os.path.exists(sysconfig.get_paths()["include"] + "/Python.h")' 2>/dev/null \
	    || $(call apt_install,$(APT_BUILD))
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install -q -e '.[dev]'
	touch $@

test: venv ## unit tests and tests on this machine's kernel (real processes; the kernel part wants root)
	$(VENV)/bin/pytest

test-vm: venv ## tests in Debian VMs that it builds and boots (wants root, or sudo, and the network once)
	@{ command -v qemu-system-x86_64 && command -v qemu-img && command -v mmdebstrap && command -v lz4 \
	    && PATH=$$PATH:/sbin:/usr/sbin command -v mkfs.ext4; } >/dev/null || $(call apt_install,$(APT_VM))
	$(SUDO) $(VENV)/bin/python -m tests.vm.image
	$(SUDO) $(VENV)/bin/pytest tests/vm

check: venv ## lint, format and types
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

clean: ## remove what the other targets made
	rm -rf $(VENV) build dist .hypothesis .mypy_cache .pytest_cache .ruff_cache
