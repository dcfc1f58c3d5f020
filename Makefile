# `make demo`, `make check` and `make test` are all a fresh machine with Python 3.11 needs; both set everything up.
UV ?= $(shell command -v uv || echo .venv-uv/bin/uv)
PYTHON ?= 3.11
export UV_PROJECT_ENVIRONMENT ?= .venv
# Otherwise each process compiles this package and its tests anew; many containers set it.
unexport PYTHONDONTWRITEBYTECODE
# Ray should neither phone home nor warn about it.
export RAY_USAGE_STATS_ENABLED = 0

.PHONY: demo check unit test chaos soak fuzz lint docs bench bench-extraction bench-search bench-attribution bench-serving bench-overhead bench-quality setup clean

demo: setup ## The whole system on real music, on this machine; MODEL=nano-dit takes another bundled model.
	$(UV) run --no-sync lumina demo $(if $(MODEL),--model $(MODEL))

check: setup ## Lint, types and the tests without Ray, in under two minutes on two cores.
	$(MAKE) --no-print-directory -j 2 lint unit

unit: setup ## The tests of `make check`; tests/conftest.py says which these are.
	OMP_NUM_THREADS=1 $(UV) run --no-sync pytest -n 2 -q --check -m "not chaos and not soak"

# Two processes of one thread each; tests/conftest.py says which runs what.
test: setup lint ## Everything that must pass.
	OMP_NUM_THREADS=1 $(UV) run --no-sync pytest -n 2

chaos: setup ## Jobs whose workers, nodes, drivers and disks fail, alone; most are part of `make test`.
	$(UV) run --no-sync pytest -m chaos

soak: setup ## The endpoint under thousands of requests, floods and kills; long outages; training that is killed.
	$(UV) run --no-sync pytest -m soak -rP

fuzz: setup ## The property tests, with examples that nobody has seen yet; `make test` draws the same each time.
	OMP_NUM_THREADS=1 $(UV) run --no-sync pytest -n 2 -q -m "hypothesis and not soak" --hypothesis-profile=fuzz

lint: setup
	$(UV) run --no-sync ruff check .
	$(UV) run --no-sync ruff format --check .
	$(UV) run --no-sync mypy

docs: .venv/.docs-ready ## The site, in build/site. Fails on a link that leads nowhere.
	NO_MKDOCS_2_WARNING=1 $(UV) run --no-sync mkdocs build --quiet

.venv/.docs-ready: .venv/.ready
	$(UV) sync --python $(PYTHON) --extra demo --group docs --compile-bytecode
	@touch $@

bench: bench-extraction bench-search bench-attribution bench-serving bench-overhead bench-quality ## Measurements; they print ratios and write benchmarks/results/.

bench-extraction: setup
	$(UV) run --no-sync python -m benchmarks.extraction

bench-search: setup
	$(UV) run --no-sync python -m benchmarks.search

bench-attribution: setup ## What an answer costs once a query is fingerprinted, at 99 to a million songs.
	$(UV) run --no-sync python -m benchmarks.attribution

bench-serving: setup ## The endpoint under load, and what Ray Serve costs over plain FastAPI.
	$(UV) run --no-sync python -m benchmarks.serving

bench-overhead: setup ## What the engine itself costs a song, at 1 to 64 workers that compute nothing.
	$(UV) run --no-sync python -m benchmarks.overhead

bench-quality: setup ## What every method is worth against retraining, on the shipped bank.
	$(UV) run --no-sync python -m benchmarks.attribution_quality

setup: .venv/.ready

# Compiled once: where PYTHONDONTWRITEBYTECODE is set, as in many containers, each process compiles torch anew.
.venv/.ready: pyproject.toml | $(UV)
	$(UV) sync --python $(PYTHON) --extra demo --compile-bytecode
	@touch $@

# uv itself, through pip, where it is missing.
.venv-uv/bin/uv:
	python3 -m venv .venv-uv
	.venv-uv/bin/python -m pip install --quiet uv

clean:
	rm -rf .venv .venv-uv demo-output build
