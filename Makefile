# oomwatchd: build, run, test, install. `make help` lists the targets.
PYTHON ?= python3
VENV := .venv
SUDO := $(if $(filter 0,$(shell id -u)),,sudo)
apt_install = { $(SUDO) apt-get update -q && $(SUDO) env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends $(1); }
APT_VM := qemu-system-x86 qemu-utils mmdebstrap lz4 zstd e2fsprogs
APT_DEB := dpkg-dev fakeroot clang gcc libbpf-dev debhelper dh-python python3 python3-tomli python3-hypothesis python3-pyinotify python3-pytest python3-systemd scdoc
APT_BUILD := gcc pkg-config libsystemd-dev python3-dev python3-venv
APT_BPF := clang libbpf-dev libbpf1
# Programs that some tests need; without them, these tests are skipped. program:package, if the names differ.
TEST_TOOLS := scdoc groff mandoc strace zsh fish bwrap:bubblewrap mkfs.btrfs:btrfs-progs runc chromium rpmbuild:rpm makepkg \
    ansible-playbook:ansible-core promtool:prometheus nix-instantiate:nix-bin nginx:nginx-light

.DEFAULT_GOAL := help
.PHONY: help venv packages run bench test test-unit test-tools test-kernel test-vm vm-images coverage mutants check man install uninstall sdist sdist-alone deb deb-alone rpm rpm-alone release clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

venv: $(VENV)/.stamp ## make .venv/bin/oomwatchd and .venv/bin/oomwatchctl, and install what they need
	@{ command -v $(CLANG) && test -e /usr/include/bpf/bpf_helpers.h; } >/dev/null || $(call apt_install,$(APT_BPF)) || true
	@$(MAKE) --no-print-directory -s $(BPF_OBJECT)

$(VENV)/.stamp: pyproject.toml
	@pkg-config --exists libsystemd 2>/dev/null && command -v gcc >/dev/null \
	    && $(PYTHON) -c 'import ensurepip, sysconfig, os; assert os.path.exists(sysconfig.get_paths()["include"] + "/Python.h")' 2>/dev/null \
	    || $(call apt_install,$(APT_BUILD))
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install -q -e .
	touch $@

# What make test, make check and make bench need besides.
$(VENV)/.stamp-dev: $(VENV)/.stamp
	$(VENV)/bin/pip install -q -e '.[dev]'
	touch $@

# The filter in the kernel. Without it, oomwatchd does the same at a higher price, so a missing compiler is no failure.
# Debugging information names no directory of this machine, so that two builds are the same bytes.
CLANG ?= clang
BPF_FLAGS = -O2 -g -fdebug-compilation-dir=. -Wall -target bpf $(addprefix -I/usr/include/,$(shell $(CC) -print-multiarch 2>/dev/null))
BPF_OBJECT := src/oomwatchd/kernel/exec_filter.bpf.o

%.bpf.o: %.bpf.c
	$(CLANG) $(BPF_FLAGS) -c $< -o $@.new && mv $@.new $@ \
	    || echo "no $@: it needs clang and libbpf-dev; oomwatchd works without it, and wakes up more often"

packages: ## install all packages that the other targets and the tests need
	@wanted=; export PATH="$$PATH:/usr/sbin:/sbin"; \
	for tool in $(TEST_TOOLS); do command -v "$${tool%:*}" >/dev/null || wanted="$$wanted $${tool#*:}"; done; \
	$(have_deb) || wanted="$$wanted $(APT_DEB)"; \
	$(have_vm) || wanted="$$wanted $(APT_VM)"; \
	test -z "$$wanted" || $(call apt_install,$$wanted)

have_deb = dpkg-checkbuilddeps 2>/dev/null
have_vm = { command -v qemu-system-x86_64 && command -v qemu-img && command -v mmdebstrap && command -v lz4 && command -v zstd \
    && PATH="$$PATH:/usr/sbin:/sbin" command -v mkfs.ext4; } >/dev/null

run: venv ## run the daemon in the foreground, with config/oomwatchd.toml; Ctrl-C ends it
	@chmod go-w config/oomwatchd.toml # with umask 002 others could write it, and such a file is refused
	$(SUDO) $(VENV)/bin/oomwatchd -c config/oomwatchd.toml

test: test-unit test-tools test-kernel ## run all tests but those in VMs, some 10 minutes

# Byte code is kept, whatever the environment says: the tests start some hundred Python programs. Root keeps it in build/,
# so that no folder of the checkout becomes root's; the unit tests where pip has put that of pytest already.
keep_byte_code = env -u PYTHONDONTWRITEBYTECODE

# What a failed run has written stays. Some tests act as another user, who must get there too.
test-unit: venv $(VENV)/.stamp-dev ## run the unit tests, one process for each processor: under 30 s on two
	written=$$(mktemp -d -p "$$($(VENV)/bin/python -m tests.in_memory)" ow-XXXXXX) && chmod 755 "$$written" && \
	    $(keep_byte_code) TMPDIR="$$written" $(VENV)/bin/pytest -n auto --dist worksteal --ignore=tests/kernel \
	    --ignore=tests/tools && rm -rf "$$written"

test-tools: venv $(VENV)/.stamp-dev ## run the tests that run make, rpmbuild, makepkg, shells, a browser, .ci/run
	$(keep_byte_code) $(VENV)/bin/pytest -n auto --dist worksteal tests/tools

# Two tests run at a time, because much of the time is waiting. Each daemon gets the events of all processes of the machine,
# so a test that another one would disturb is marked `serial`.
test-kernel: venv $(VENV)/.stamp-dev ## run the tests on this machine's kernel, with real processes (needs root)
	$(SUDO) $(keep_byte_code) PYTHONPYCACHEPREFIX='$(CURDIR)/build/pycache' $(VENV)/bin/pytest -n 2 --dist loadfile tests/kernel

KERNEL_TESTS ?= tests/kernel
coverage: export PYTHONPYCACHEPREFIX = $(CURDIR)/build/pycache
coverage: venv $(VENV)/.stamp-dev ## measure which lines the tests and their daemons run, for each room, without and with KERNEL_TESTS; build/coverage/html
	$(VENV)/bin/pip install -q -e '.[coverage]'
	rm -rf build/coverage && install -d -m 1777 build/coverage
	env -u PYTHONDONTWRITEBYTECODE $(VENV)/bin/coverage run -m pytest -q -n auto --dist worksteal --ignore=tests/kernel \
	    --ignore=tests/tools
	$(VENV)/bin/coverage combine -q
	@echo 'The unit tests:' && $(rooms)
	$(SUDO) env -u PYTHONDONTWRITEBYTECODE $(VENV)/bin/coverage run -m pytest -q $(KERNEL_TESTS)
	$(SUDO) $(VENV)/bin/coverage combine -q --append
	@echo 'With $(KERNEL_TESTS):' && $(rooms)
	$(VENV)/bin/coverage html -q -d build/coverage/html
rooms = for room in $(sort $(notdir $(patsubst %/,%,$(dir $(wildcard src/oomwatchd/*/__init__.py))))); do \
    printf '  %-8s %3s %%\n' $$room "$$($(VENV)/bin/coverage report --format=total --include="*/oomwatchd/$$room/*")"; done; \
    printf '  %-8s %3s %%\n' all "$$($(VENV)/bin/coverage report --format=total)"

MUTATED ?= oomwatchd.*
mutants: venv $(VENV)/.stamp-dev ## find changes of rules, pinning, procfs and badness that no unit test notices; MUTATED='oomwatchd.rules*' for a part
	$(VENV)/bin/pip install -q -e '.[mutants]'
	$(VENV)/bin/mutmut run '$(MUTATED)'
	$(VENV)/bin/mutmut results

vm-images: venv $(VENV)/.stamp-dev ## build the images that the tests in VMs boot, unless they exist
	@$(have_vm) || $(call apt_install,$(APT_VM))
	$(SUDO) $(VENV)/bin/python -m tests.vm.image

test-vm: vm-images ## run the tests in Debian VMs, which it builds and boots (needs root or sudo, and once the network)
	$(SUDO) $(VENV)/bin/pytest -n 2 --dist loadfile --no-loadscope-reorder tests/vm

bench: venv $(VENV)/.stamp-dev ## measure speed and memory beside a small C program, bench/README.md (needs root, 7 minutes, a machine at rest)
	@command -v cc >/dev/null || $(call apt_install,gcc libc6-dev)
	$(SUDO) $(VENV)/bin/python -m bench

check: venv $(VENV)/.stamp-dev ## check lint, format and types
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

# -- installing. These are the GNU variables, and systemd's directories derived from them. /etc is no variable, because the
# daemon reads its configuration there alone.
PREFIX ?= /usr/local
prefix ?= $(PREFIX)
exec_prefix ?= $(prefix)
bindir ?= $(exec_prefix)/bin
sbindir ?= $(exec_prefix)/sbin
libdir ?= $(exec_prefix)/lib
datarootdir ?= $(prefix)/share
mandir ?= $(datarootdir)/man
pkgdatadir ?= $(datarootdir)/oomwatchd
docdir ?= $(datarootdir)/doc/oomwatchd
systemdsystemunitdir ?= $(prefix)/lib/systemd/system
catalogdir ?= $(prefix)/lib/systemd/catalog
bashcompletiondir ?= $(datarootdir)/bash-completion/completions
zshcompletiondir ?= $(datarootdir)/zsh/site-functions
fishcompletiondir ?= $(datarootdir)/fish/vendor_completions.d
# A private directory: no other Python program finds these modules, and the launchers (-I) search it first.
pkglibdir = $(libdir)/oomwatchd
INSTALL ?= install
# The interpreter that will run the programs; it may be another one than that of the venv.
PYTHON_RUN ?= /usr/bin/python3
# Byte code is never compared with its source, so that nothing is looked up or written at run time. Packages set this to
# no, and compile by their own tools.
COMPILE ?= yes
MODULES := $(shell cd src && find oomwatchd -name '*.py')
MAN_PAGES := build/man/oomwatchd.8 build/man/oomwatchctl.1 build/man/oomwatchd.toml.5

man: ## build the manual pages from man/*.scd
	@command -v scdoc >/dev/null || $(call apt_install,scdoc)
	$(MAKE) --no-print-directory $(MAN_PAGES)

build/man/%: man/%.scd man/roff.sed
	@mkdir -p $(@D)
	scdoc < $< > $@.scdoc && sed -f man/roff.sed $@.scdoc > $@.new && rm $@.scdoc && mv $@.new $@

# This installs no packages: without scdoc, run `make man` first.
install: $(if $(shell command -v scdoc),$(MAN_PAGES)) $(BPF_OBJECT) ## install into DESTDIR, below PREFIX=/usr/local; /etc/oomwatchd.toml only if there is none
	rm -rf '$(DESTDIR)$(pkglibdir)'
	$(foreach dir,$(sort $(dir $(MODULES))),$(INSTALL) -d '$(DESTDIR)$(pkglibdir)/$(dir)' \
	    && $(INSTALL) -m 644 -t '$(DESTDIR)$(pkglibdir)/$(dir)' $(wildcard src/$(dir)*.py) &&) true
	test ! -e $(BPF_OBJECT) || $(INSTALL) -m 644 $(BPF_OBJECT) '$(DESTDIR)$(pkglibdir)/$(BPF_OBJECT:src/%=%)'
	$(INSTALL) -d '$(DESTDIR)$(sbindir)' '$(DESTDIR)$(bindir)' '$(DESTDIR)/etc/oomwatchd.d'
	$(call launcher,$(call entry,oomwatchd)) > '$(DESTDIR)$(sbindir)/oomwatchd'
	$(call launcher,$(call entry,oomwatchctl)) > '$(DESTDIR)$(bindir)/oomwatchctl'
	chmod 755 '$(DESTDIR)$(sbindir)/oomwatchd' '$(DESTDIR)$(bindir)/oomwatchctl'
	$(INSTALL) -d '$(DESTDIR)$(pkgdatadir)'
	$(INSTALL) -m 644 config/oomwatchd.schema.json '$(DESTDIR)$(pkgdatadir)/oomwatchd.schema.json'
	test -e '$(DESTDIR)/etc/oomwatchd.toml' \
	    || { umask 022 && $(shipped_configuration) > '$(DESTDIR)/etc/oomwatchd.toml'; }
	$(INSTALL) -d '$(DESTDIR)$(systemdsystemunitdir)' '$(DESTDIR)$(catalogdir)' '$(DESTDIR)$(docdir)/examples'
	sed -e 's|/usr/sbin/oomwatchd|$(sbindir)/oomwatchd|' -e 's|/usr/bin/oomwatchctl|$(bindir)/oomwatchctl|' \
	    -e 's|^ExecPaths=/usr$$|ExecPaths=$(sort /usr $(filter-out /usr/%,$(prefix)))|' systemd/oomwatchd.service \
	    > '$(DESTDIR)$(systemdsystemunitdir)/oomwatchd.service'
	chmod 644 '$(DESTDIR)$(systemdsystemunitdir)/oomwatchd.service'
	sed -e 's|/usr/bin/oomwatchctl|$(bindir)/oomwatchctl|' systemd/oomwatchd-metrics.service \
	    > '$(DESTDIR)$(systemdsystemunitdir)/oomwatchd-metrics.service'
	chmod 644 '$(DESTDIR)$(systemdsystemunitdir)/oomwatchd-metrics.service'
	$(INSTALL) -m 644 systemd/oomwatchd-metrics.timer systemd/oomwatchd-kill.path systemd/oomwatchd-kill.service \
	    '$(DESTDIR)$(systemdsystemunitdir)/'
	$(INSTALL) -m 644 systemd/oomwatchd.catalog '$(DESTDIR)$(catalogdir)/oomwatchd.catalog'
	$(INSTALL) -m 644 systemd/no-ptrace.conf '$(DESTDIR)$(docdir)/examples/no-ptrace.conf'
	$(INSTALL) -m 644 config/prometheus/oomwatchd.rules.yml config/grafana/oomwatchd.json '$(DESTDIR)$(docdir)/examples/'
	@mkdir -p build
	@PYTHONPATH=src PYTHONDONTWRITEBYTECODE=1 $(PYTHON_RUN) -m oomwatchd.ctl.completion build 2>/dev/null \
	    && $(call complete,bash,$(bashcompletiondir)/oomwatchctl) && $(call complete,zsh,$(zshcompletiondir)/_oomwatchctl) \
	    && $(call complete,fish,$(fishcompletiondir)/oomwatchctl.fish) \
	    || echo "make install: no shell completion: it is made with tomli; on Debian: apt install python3-tomli"
	@for page in $(MAN_PAGES); do \
	    test -e $$page || { echo "make install: no $$page: install scdoc and run 'make man install'"; continue; }; \
	    $(INSTALL) -D -m 644 $$page "$(DESTDIR)$(mandir)/man$${page##*.}/$${page##*/}"; done
ifeq ($(COMPILE),yes)
	$(PYTHON_RUN) -I -m compileall -q -f --invalidation-mode unchecked-hash -s '$(DESTDIR)/' -p / '$(DESTDIR)$(pkglibdir)'
	@$(PYTHON_RUN) -I -c 'import pyinotify, systemd.daemon, systemd.journal, tomli' 2>/dev/null \
	    || echo "make install: $(PYTHON_RUN) lacks modules; on Debian: apt install python3-systemd python3-pyinotify python3-tomli"
endif
	$(call tell_systemd)

uninstall: ## give processes their original values back, and remove what install has put there, but no changed /etc/oomwatchd.toml
	$(if $(DESTDIR),,@$(give_back) || echo 'make uninstall: not every process has got back the oom_score_adj that it had' >&2)
	$(if $(DESTDIR),,-test ! -d /run/systemd/system || systemctl disable --now oomwatchd.service oomwatchd-metrics.timer oomwatchd-kill.path)
	rm -rf '$(DESTDIR)$(pkglibdir)' '$(DESTDIR)$(docdir)' '$(DESTDIR)$(pkgdatadir)'
	rm -f '$(DESTDIR)$(sbindir)/oomwatchd' '$(DESTDIR)$(bindir)/oomwatchctl' \
	    '$(DESTDIR)$(systemdsystemunitdir)/oomwatchd.service' '$(DESTDIR)$(catalogdir)/oomwatchd.catalog' \
	    '$(DESTDIR)$(systemdsystemunitdir)/oomwatchd-metrics.service' \
	    '$(DESTDIR)$(systemdsystemunitdir)/oomwatchd-kill.path' '$(DESTDIR)$(systemdsystemunitdir)/oomwatchd-kill.service' \
	    '$(DESTDIR)$(systemdsystemunitdir)/oomwatchd-metrics.timer' '$(DESTDIR)$(bashcompletiondir)/oomwatchctl' \
	    '$(DESTDIR)$(zshcompletiondir)/_oomwatchctl' '$(DESTDIR)$(fishcompletiondir)/oomwatchctl.fish'
	$(foreach page,$(notdir $(MAN_PAGES)),rm -f '$(DESTDIR)$(mandir)/man$(lastword $(subst ., ,$(page)))/$(page)' &&) true
	@if $(shipped_configuration) | cmp -s - '$(DESTDIR)/etc/oomwatchd.toml'; then rm -f '$(DESTDIR)/etc/oomwatchd.toml'; fi
	@rmdir '$(DESTDIR)/etc/oomwatchd.d' 2>/dev/null || true
	$(if $(DESTDIR),,rm -rf /run/oomwatchd)
	$(call tell_systemd)

# As in debian/oomwatchd.prerm: the daemon gives the values back. If none runs, a daemon without rules, and without the pins
# of `oomwatchctl pin`, releases all processes in the ledger.
give_back = test ! -e /run/oomwatchd/ledger.json || '$(bindir)/oomwatchctl' restore 2>/dev/null \
    || { sed -i '/"pin":/d' /run/oomwatchd/ledger.json; none=$$(mktemp) && '$(sbindir)/oomwatchd' --once -c "$$none"; status=$$?; rm -f "$$none"; test $$status = 0; }
shipped_configuration = sed -e 's|/usr/share/oomwatchd|$(pkgdatadir)|' config/oomwatchd.toml
complete = $(INSTALL) -D -m 644 build/completion.$(1) '$(DESTDIR)$(2)'
entry = $(shell sed -n 's/^$(1) = "\(.*\):main"$$/\1/p' pyproject.toml)
launcher = printf '%s\n' '\#!$(PYTHON_RUN) -I' 'import sys' '' 'sys.path.insert(0, "$(pkglibdir)")' 'from $(1) import main' '' 'sys.exit(main())'
tell_systemd = $(if $(DESTDIR),,-test ! -d /run/systemd/system || { systemctl daemon-reload; journalctl --update-catalog; })

VERSION = $(shell sed -n 's/^__version__ = "\(.*\)"$$/\1/p' src/oomwatchd/__init__.py)
# The time of files in packages is that of the release, so that two builds are the same bytes.
export SOURCE_DATE_EPOCH ?= $(shell git log -1 --format=%ct 2>/dev/null || date +%s)
SOURCES := Makefile pyproject.toml README.md CHANGELOG.md LICENSE src systemd config man debian tests
TARBALL = dist/oomwatchd-$(VERSION).tar.gz

# These targets share build/ and dist/, so two of them in one checkout wait for each other.
alone = @mkdir -p build && flock build/lock $(MAKE) --no-print-directory $@-alone

sdist: ## make dist/oomwatchd-VERSION.tar.gz, the sources from which all packages are built
	$(alone)

sdist-alone:
	@mkdir -p dist
	tar --create --sort=name --mtime=@$(SOURCE_DATE_EPOCH) --owner=0 --group=0 --numeric-owner --mode=go-w,u+rw,a+rX \
	    --exclude=__pycache__ --exclude='*.egg-info' --exclude='*.pyc' --transform 's,^,oomwatchd-$(VERSION)/,' $(SOURCES) \
	    | gzip -9n > $(TARBALL)

deb: ## make dist/oomwatchd_VERSION_all.deb, for Debian 12 and later
	$(alone)

deb-alone: sdist-alone
	@$(have_deb) || $(call apt_install,$(APT_DEB))
	rm -rf build/deb && mkdir -p build/deb
	tar --extract --file $(TARBALL) -C build/deb
	cd build/deb/oomwatchd-$(VERSION) && dpkg-buildpackage --build=binary --no-sign
	mv build/deb/*.deb build/deb/*.changes build/deb/*.buildinfo dist/

rpm: ## make dist/oomwatchd-VERSION-1.noarch.rpm, for Fedora and similar distributions; also on Debian
	$(alone)

rpm-alone: sdist-alone
	@command -v rpmbuild >/dev/null || $(call apt_install,rpm)
	@command -v scdoc >/dev/null || $(call apt_install,scdoc)
	rm -rf build/rpm && mkdir -p build/rpm
	rpmbuild -bb --define '_topdir $(CURDIR)/build/rpm' --define '_sourcedir $(CURDIR)/dist' \
	    --define 'use_source_date_epoch_as_buildtime 1' --define 'clamp_mtime_to_source_date_epoch 1' \
	    --define '_buildhost localhost' config/rpm/oomwatchd.spec
	mv build/rpm/RPMS/*/*.rpm dist/

# The tag comes last, so that it is there only if all packages were built.
release: ## make all packages and their checksums in dist/, and the tag vVERSION; needs a clean checkout
	@test -z "$$(git status --porcelain)" || { echo "make release: the checkout has changes that aren't committed"; exit 1; }
	@grep -q '^## \[$(VERSION)\] - 20' CHANGELOG.md || { echo "make release: CHANGELOG.md has no dated [$(VERSION)]"; exit 1; }
	@! git rev-parse -q --verify refs/tags/v$(VERSION) >/dev/null || { echo "make release: v$(VERSION) is tagged already"; exit 1; }
	rm -rf dist
	$(MAKE) --no-print-directory deb rpm
	cd dist && sha256sum *.tar.gz *.deb *.rpm > SHA256SUMS
	git tag -a v$(VERSION) -m 'oomwatchd $(VERSION)'

MADE = $(VENV) $(BPF_OBJECT) build dist mutants .hypothesis .mypy_cache .pytest_cache .ruff_cache
clean: ## remove the files that the other targets made
	rm -rf $(MADE) 2>/dev/null || $(SUDO) rm -rf $(MADE)
