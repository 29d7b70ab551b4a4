# Needs nothing but Python 3.11 or later. `make help` lists the targets.
PYTHON ?= python3

# What a shell of yours may export for another project. Without bytecode each process of the tests would compile all it imports.
unexport DATABASE_URL DJANGO_SETTINGS_MODULE PYTEST_ADDOPTS PYTEST_PLUGINS PYTHONDONTWRITEBYTECODE PYTHONHOME PYTHONPATH PYTHONWARNINGS TEST_DATABASE_URL
# Python 3.11 reads the path of the clone by the locale. C knows no accents, nor does one that is not installed.
ifneq ($(LC_ALL),)
export LC_ALL = C.UTF-8
endif
# Of pip's settings only those of the way to an index are kept: others install elsewhere, or something else.
INDEX = CACHE_DIR CERT CLIENT_CERT CONFIG_FILE DEFAULT_TIMEOUT EXTRA_INDEX_URL FIND_LINKS INDEX_URL KEYRING_PROVIDER NO_INDEX PROXY RETRIES TIMEOUT TRUSTED_HOST USE_FEATURE
unexport $(filter-out $(INDEX:%=PIP_%),$(filter PIP_%,$(.VARIABLES)))

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test histories lint budgets reference docs stress bench screenshots clean

help: ## List the targets
	@echo 'make TARGET [PYTHON=python3.13] [DEMO_ARGS=...] [PYTEST_ARGS=...] [SEED=...] [BENCH_ARGS=...]'
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  %-11s %s\n", $$1, $$2 }' Makefile

demo: .venv/demo ## Start a small site with traffic and an admin to look at (DEMO_ARGS=--check: only check that it works)
	@.venv/bin/python -m example_project.simulation $(DEMO_ARGS)

test: PYTEST_ARGS ?= -k 'not exhaustive'
test: .venv/test ## Run all tests on SQLite but the exhaustive ones (PYTEST_ARGS=--cov: those too, and every line and branch is to be covered)
	@.venv/bin/python -W error manage.py test example_project & \
	    .venv/bin/pytest --numprocesses=auto --dist=worksteal $(PYTEST_ARGS) && wait $$!

histories: SEED := $(or $(SEED),$(shell date +%s))
histories: .venv/test ## Run generated histories of calls against a model (SEED=...: the same ones again)
	@echo 'make histories SEED=$(SEED)'
	@.venv/bin/pytest tests/test_histories.py --hypothesis-profile=thorough --hypothesis-seed=$(SEED) $(PYTEST_ARGS)

lint: .venv/lint ## Check style, spelling, workflows, import layers, types and budgets
	@PATH="$(CURDIR)/.venv/bin:$$PATH" .ci/lint

budgets: .venv/test ## Print how much of its budgets the project has spent
	@.venv/bin/python .ci/budgets

reference: .venv/test ## Write what the pages repeat of the code into them
	@.venv/bin/python manage.py shell --verbosity=0 --command "import runpy; runpy.run_path('docs/generated.py', run_name='__main__')"

docs: .venv/docs ## Build the documentation site into docs/_build/html
	@.venv/bin/sphinx-build -W --keep-going -q -b html docs docs/_build/html
	@echo 'Open docs/_build/html/index.html'

stress: .venv/servers ## Run the tests under load, crashes and hostile input
	@.venv/bin/pytest -m stress $(PYTEST_ARGS)

bench: .venv/servers ## Measure receiving, beside a bare insert and a view written by hand
	@.venv/bin/python -m benchmarks $(BENCH_ARGS)

screenshots: .venv/browser ## Take the pictures of docs/screenshots again, from the demo; needs Chromium
	@.venv/bin/python -m tests.browser.screenshots

clean: ## Remove everything that was installed or built
	rm -rf .venv .tox .coverage* .hypothesis htmlcov .import_linter_cache .mypy_cache .pytest_cache .ruff_cache dist docs/_build *.sqlite3*
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# One environment for all targets. .venv/GROUP says that the dependency group of that name is in it.
# What is imported is compiled then: to compile all of it takes longer than to install it. Python's own
# pip puts the newest one there in a third of the time that venv takes to unpack an old one; where there
# is none, or one that cannot, venv does it.
INSTALL = install --quiet --no-user --no-compile --disable-pip-version-check
# What pyproject.toml builds the package with, and what hatchling needs for --editable. To make an
# environment for them would take a quarter of the installation, so only a group does that which has
# something else to build.
BUILD = hatchling hatch-fancy-pypi-readme editables
.venv/demo .venv/test: ISOLATION = --no-build-isolation

.venv/pyvenv.cfg:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and \
	    "Python 3.11 or later is needed; $(PYTHON) is " + sys.version.split()[0] + ". Try: make $(or $(MAKECMDGOALS),test) PYTHON=python3.13")'
	@echo 'Creating .venv ...'
	@$(PYTHON) -m venv --clear --without-pip .venv
	@$(PYTHON) -m pip --python .venv/bin/python $(INSTALL) pip $(BUILD) 2> /dev/null || \
	    { $(PYTHON) -m venv --clear .venv && .venv/bin/pip $(INSTALL) --upgrade pip $(BUILD); }

.venv/%: pyproject.toml .venv/pyvenv.cfg
	@.venv/bin/python -c 'import sys; sys.exit(sys.version_info < (3, 11) and \
	    ".venv was made with Python " + sys.version.split()[0] + "; 3.11 or later is needed. Run: make clean")'
	@echo 'Installing the dependency group "$*" into .venv ...'
	@.venv/bin/pip $(INSTALL) $(ISOLATION) --editable '.[tasks]' --group $*
	@touch $@
