# make run: the product on its embedded defaults. make test: the whole suite with all it needs.

PYTHON ?= python3
BIN := .venv/bin
REQUIREMENTS := requirements.txt requirements-indirect.txt requirements-models.txt constraints.txt
PIP := $(BIN)/pip install --quiet --disable-pip-version-check

.PHONY: run install better-stt call test quick check bench faults fuzz soak format apt

run: .venv/.run
	@$(BIN)/python manage.py serve

install: .venv/.run

# A first call to the running server: a question over a telephone, and the conversation; the speaker plays it.
QUESTION ?= What is the capital of France?
call: .venv/.run
	@$(BIN)/python manage.py simulatecall --say "$(QUESTION)" --line telephone --after-greeting --listen

# The stamps say what was installed: nothing is done twice.
.venv/bin/pip:
	$(PYTHON) -m venv .venv

.venv/.run: .venv/bin/pip $(REQUIREMENTS)
	$(PIP) --no-deps -r requirements.txt -r requirements-indirect.txt
	$(PIP) --no-deps -r requirements-models.txt
	@touch $@

.venv/.dev: .venv/.run requirements-dev.txt requirements-better-stt.txt
	$(PIP) -r requirements-dev.txt
	$(PIP) --no-deps -r requirements-better-stt.txt
	@touch $@

.venv/.bench: .venv/.run requirements-bench.txt
	$(PIP) -r requirements-bench.txt
	@touch $@

# Moonshine base, for profiles to choose, made fast and put into DATA_DIR/models. For x86-64 only.
better-stt: .venv/.run
	@test "$$(uname -m)" = x86_64 || { echo "Moonshine base's weights come for x86-64 only"; exit 1; }
	$(PIP) --no-deps -r requirements-better-stt.txt
	@DJANGO_SETTINGS_MODULE=voiceagent.settings $(BIN)/python -m calls.providers.local.moonshine_base

# Calls on one core, against Pipecat used the usual way: docs/performance.md. QUICK=1 for the shortest version.
bench: .venv/.bench
	$(BIN)/python -m benchmarks $(if $(QUICK),run --quick,all)

# What is lost when something fails: docs/reliability.md. ONLY="kill database-down" for some of it.
faults: .venv/.dev apt
	$(BIN)/python -m benchmarks faults $(if $(ONLY),--only $(ONLY))

# 100,000 generated messages and 20,000 requests at a real server.
fuzz: .venv/.dev apt
	$(BIN)/python -m benchmarks fuzz

# An hour of 50 calls that come and go.
soak: .venv/.dev apt
	$(BIN)/python -m benchmarks soak

# System packages of the suite: real PostgreSQL, Redis and browser. As root they are installed.
apt:
	@deploy/test-packages.sh

# Two at a time: most of a call is waiting for the next word. The files with real calls come first, so that
# neither of the two is left with a long one.
test: .venv/.dev apt check
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

# What needs no model, browser, service or other program: in a minute and a half.
QUICK_TESTS := admin admission beat catalogue codec connection decoding difference directing docs errors exchange frames \
  goodbye health hearing imports limits migrations models observer outgoing ownership pacer pages phase process profiles \
  profiles_command provider_errors readiness recorder requirements routing rules settings simulator speech starters \
  templates
quick: check
	$(BIN)/python -m pytest -q $(QUICK_TESTS:%=tests/test_%.py)

check: .venv/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	DATA_DIR=$$(mktemp -d) ENV_FILE=/dev/null $(BIN)/python manage.py makemigrations --check --dry-run
	DATA_DIR=$$(mktemp -d) ENV_FILE=/dev/null PRODUCTION=1 ALLOWED_HOSTS=agent.example.org \
	  SECRET_KEY=$$($(BIN)/python -c "import secrets; print(secrets.token_urlsafe(60))") \
	  $(BIN)/python manage.py check --deploy --fail-level WARNING

format: .venv/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
