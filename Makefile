# Every target does its own set-up: a fresh Debian 12 with python3, python3-venv, pip, gcc and make is enough.
#
#   make demo    see it work          make lint    what the continuous integration checks beside the tests
#   make test    run all tests        make bench   measure (QUICK=1: in a few seconds)
#   make honest  10,000 honest connections on a busy machine (CONNECTIONS=10000)
#   make windows  all tests that Windows can run, under Wine (make test runs most of them)
#   make again   what failed among all the others, three times alone
#   make fuzz    search for inputs that nobody thought of (MINUTES=60)
#   make soak    load, deaths, a full disk, and a model of what must be there (MINUTES=30)
#   make tools   install real tools for their tests: botocore, twine, Ansible, pip, uv, pnpm
#   make dist    wheel, sdist and bill of materials, built twice and compared (in dist/)
#   make site    the documents as a website (in build/site)
#   make guard   count the instructions of a request: more than before fails
#   make packages  install the wheel with pip, uv and pipx, and try it
#   make venv    only the set-up      make clean   remove everything that these commands made

# /usr/bin first: a python3 found on PATH may be a version manager's, in a folder that other users cannot enter, and the
# tests run daemons as an unprivileged user. Looked up when it is used: the system target may have installed it just then.
PYTHON ?= $(shell IFS=:; for folder in /usr/bin $$PATH; do for name in python3 python3.13 python3.12 python3.11; do \
	"$$folder/$$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	&& echo "$$folder/$$name" && exit; done; done)

JOBS ?= $(shell nproc 2>/dev/null || echo 2)

BIN := .venv/bin
PY := $(BIN)/python
STAMP := .venv/.installed
PIP := $(PY) -m pip --disable-pip-version-check --quiet

# The stamp holds the folder it was made in: a virtual environment that was moved or copied points at the old one.
ifneq ($(shell cat $(STAMP) 2>/dev/null),$(CURDIR))
MOVED := moved
endif

.PHONY: again windows site dist packages tools guard demo test lint bench honest fuzz soak venv system clean moved

demo: venv
	@$(PY) examples/demo.py

# All of them side by side, most of them wait for processes; what ARGS names, one after the other.
test: venv
	@$(PY) -m pytest $(or $(ARGS),--numprocesses=$(JOBS) --dist=worksteal)

# What Windows can run, in a Windows Python under Wine; make test leaves the longest groups out.
windows: venv
	@WINDOWS=all $(PY) -m pytest tests/windows -q --numprocesses=$(JOBS) --dist=worksteal $(ARGS)

# What failed in the last run, up to three tests, alone: each must pass three times.
again: venv
	@WINDOWS=all $(PY) tests/again.py

lint: venv
	@$(PY) -m ruff check .
	@$(PY) -m ruff format --check .
	@$(PY) -m mypy
	@$(PY) -m mypy --platform darwin src/keychain_auth/platform/local.py src/keychain_auth/platform/place.py src/keychain_auth/platform/macos
	@$(PY) -m mypy --platform win32 src/keychain_auth/oslayer src/keychain_auth/platform/windows src/keychain_auth/client/pipe.py
	@$(BIN)/lint-imports

bench: venv
	@$(PY) bench/run.py $(if $(QUICK),--quick) $(ARGS)

# Honest clients of several languages, 10,000 connections on a busy machine: not one may be refused.
honest: venv
	@HONEST=$(or $(CONNECTIONS),10000) $(PY) -m pytest tests/honest -q $(ARGS)

# Goes on for MINUTES with what `make test` does for seconds; finds are written to build/fuzz.
fuzz: venv
	@$(PY) tests/fuzz/run.py --minutes $(or $(MINUTES),60) $(ARGS)

# Load under bad weather, every answer checked: MINUTES of it. Figures in build/soak.json.
soak: venv
	@$(PY) tests/soak/run.py --minutes $(or $(MINUTES),30) $(ARGS)

# Instructions of a request, counted: a change that makes it dearer fails, however busy the machine is.
guard: venv
	@$(PY) bench/guard.py $(ARGS)

# The documents as a website, in build/site; nothing of it needs a network.
site: venv
	@$(PY) -m release.website build/site

# Wheel and sdist, the same bytes for everybody, and what an installation consists of.
dist: venv
	@rm -rf dist && $(PY) release/build.py dist
	@$(PY) release/sbom.py "$$($(PY) -c 'import keychain_auth; print(keychain_auth.__version__)')" dist/sbom.cdx.json

# The wheel installed by the tools that people use: pip, and uv and pipx, which are fetched into build/tools.
packages: dist
	@test -x build/tools/bin/uv || { $(PY) -m venv build/tools && build/tools/bin/pip install --quiet uv pipx; }
	@PATH="$(CURDIR)/build/tools/bin:$$PATH" $(PY) -m pytest tests/release -q $(ARGS)

venv: $(STAMP)

$(STAMP): requirements/dev.txt pyproject.toml $(MOVED) | system
	@test -n "$(PYTHON)" || { echo "No Python 3.11 or newer found. Say which one: make PYTHON=/path/to/python3" >&2; exit 1; }
	@echo "Setting up .venv with $(PYTHON) (once; about half a minute)"
	@rm -f $@
	@$(PYTHON) -m venv $(if $(MOVED),--clear) .venv
	@$(PIP) install --require-hashes -r requirements/dev.txt
	@$(PIP) install --no-deps --no-build-isolation -e .
	@printf '%s\n' '$(CURDIR)' > $@

# What the tests and the demo need of the machine. Root on Debian gets it; everybody else is told what to ask for. Without
# the optional part (a desktop keyring, FUSE, socat, etcd, a TPM in software, a browser) some tests are skipped, and say so.
system:
	@missing=''; optional=''; \
	command -v gcc >/dev/null || missing="$$missing gcc"; \
	echo '#include <stdio.h>' | gcc -E - >/dev/null 2>&1 || missing="$$missing libc6-dev"; \
	test -n "$(PYTHON)" && $(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || missing="$$missing python3 python3-venv"; \
	command -v gnome-keyring-daemon >/dev/null || optional="$$optional gnome-keyring"; \
	command -v dbus-run-session >/dev/null || optional="$$optional dbus"; \
	command -v socat >/dev/null || optional="$$optional socat"; \
	command -v fusermount3 >/dev/null || optional="$$optional fuse3"; \
	test -x /usr/sbin/mkfs.btrfs || optional="$$optional btrfs-progs"; \
	command -v secret-tool >/dev/null || optional="$$optional libsecret-tools"; \
	command -v swtpm >/dev/null || optional="$$optional swtpm"; \
	command -v etcd >/dev/null || optional="$$optional etcd-server"; \
	command -v xclip >/dev/null || optional="$$optional xclip"; \
	command -v Xvfb >/dev/null || optional="$$optional xvfb"; \
	command -v tpm2 >/dev/null || optional="$$optional tpm2-tools"; \
	command -v systemd-socket-activate >/dev/null || optional="$$optional systemd"; \
	command -v zsh >/dev/null || optional="$$optional zsh"; \
	command -v fish >/dev/null || optional="$$optional fish"; \
	command -v man >/dev/null || optional="$$optional man-db"; \
	command -v skopeo >/dev/null || optional="$$optional skopeo"; \
	command -v restic >/dev/null || optional="$$optional restic"; \
	command -v mbsync >/dev/null || optional="$$optional isync"; \
	command -v osslsigncode >/dev/null || optional="$$optional osslsigncode"; \
	command -v chromium >/dev/null || optional="$$optional chromium"; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then missing="$$missing$$optional"; fi; \
	test -z "$$missing" && exit; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		echo "Installing$$missing"; \
		apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends $$missing >/dev/null; \
	else \
		echo "Missing on this machine:$$missing. Install with: sudo apt-get install$$missing" >&2; exit 1; \
	fi

# The real tools of tests/integrations that no package of the system brings; where they are missing, those tests are skipped.
tools: venv
	@for name in botocore twine ansible-core pip uv; do $(PIP) install --upgrade --target build/tools/$$name $$name || exit 1; done
	@npm install --silent --no-fund --no-audit --prefix build/tools/pnpm pnpm@9

clean:
	@rm -rf .venv build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
