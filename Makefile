# Every target creates .venv if it is missing. Variables: PYTHON, WORKERS, ARGS.

PYTHON ?= python3
WORKERS ?= 2
ARGS ?=

PIP = .venv/bin/python -m pip --quiet --disable-pip-version-check --no-input
comma = ,

.DEFAULT_GOAL = help
.DELETE_ON_ERROR:
.NOTPARALLEL:
.PHONY: help demo test quick lint clean

help:
	@echo "make demo    train six models of digits, compare them, write runs/demo/report.html"
	@echo "make test    run the tests         (WORKERS=2, ARGS='-k name')"
	@echo "make quick   run only the quick tests, while you work"
	@echo "make lint    check style and types"
	@echo "make clean   remove .venv, caches and builds, but not runs/"
	@echo
	@echo "The first call sets up .venv with $(PYTHON). Choose another one with PYTHON=python3.12."

demo: .venv/.lnz-app
	.venv/bin/lnz demo $(ARGS)

# The tests spend most of their time on compilation. The cache makes a repeated run quick.
PYTEST = JAX_COMPILATION_CACHE_DIR='$(CURDIR)/.cache/jax' JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS=0.2 \
	.venv/bin/python -m pytest -n $(WORKERS)

test: .venv/.lnz-app-test
	$(PYTEST) $(ARGS)

# Tests that compile few programs: design, files, arrays, errors, estimates, and a few tests of each part of the library.
QUICK = data plots/test_annealing.py plots/test_figures.py plots/test_latent_pictures.py \
	$(patsubst %,test_%.py,arrays cite closed_forms compare constant_parts design energies estimate evaluate fit \
	glow inverse_check jit_methods latent_tools modules own_space precision preprocess settings softplus source \
	vae_parts wrong_calls)

quick: .venv/.lnz-app-test
	$(PYTEST) --dist loadfile $(addprefix tests/,$(QUICK)) $(ARGS)

lint: .venv/.lnz-app-test-lint
	.venv/bin/python -m ruff check
	.venv/bin/python -m ruff format --check
	.venv/bin/basedpyright

clean:
	rm -rf .venv .cache .pytest_cache .ruff_cache build dist
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +

# .venv/.lnz-app-test is the stamp of `pip install -e .[app,test]`. Installing more extras also stamps the smaller sets.
.venv/.lnz-%: pyproject.toml $(wildcard constraints-*.txt)
	@set -e; \
	if ! .venv/bin/python -m pip --version >/dev/null 2>&1; then \
		$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || \
			{ echo "lnz needs Python 3.11, 3.12 or 3.13, but $(PYTHON) is another version. Try: make PYTHON=python3.12" >&2; exit 1; }; \
		echo "Setting up .venv (once; a few minutes)"; \
		$(PYTHON) -m venv .venv; \
	else \
		echo "Updating .venv"; \
	fi; \
	version=$$(.venv/bin/python -c 'import sys; print("%d.%d" % sys.version_info[:2])'); \
	case $$version in 3.13) pins=constraints-3.12.txt ;; *) pins=constraints-$$version.txt ;; esac; \
	if [ -f $$pins ]; then \
		constrain="--constraint $$pins"; \
	else \
		echo "There is no file $$pins: installing the newest versions, which may be untested"; \
		constrain=; \
	fi; \
	$(PIP) install --prefer-binary $$constrain --editable '.[$(subst -,$(comma),$*)]'; \
	case $* in app-test*) touch .venv/.lnz-app ;; esac; \
	case $* in app-test-*) touch .venv/.lnz-app-test ;; esac; \
	touch $@
