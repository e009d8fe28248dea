# Each target makes the .venv that it needs.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.PHONY: chart dashboards setup protos check format test chaos chaos-cluster test-cluster demo clean bench-embedder bench-gateway bench-gpu bench-quality bench-reranker bench-retriever bench-smoke proto-image image-requirements test-images

setup: $(INSTALLED)

# The server first: it brings the client; then the client again, editable.
$(INSTALLED): pyproject.toml clients/python/pyproject.toml hatch_build.py clients/python/hatch_build.py constraints.txt protos/sirdar/v1/*.proto
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -e clients/python
	touch $(INSTALLED)

# Building the client generates its stubs from protos/.
protos: setup
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -e clients/python

check: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/buf lint
	$(BIN)/buf format --diff --exit-code protos --path protos/sirdar
	$(BIN)/buf breaking --against protos/released.binpb
	$(BIN)/python -m deploy.dashboards --check
	$(BIN)/python -m deploy.chart --check

format: setup
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
	$(BIN)/buf format --write protos --path protos/sirdar

# Builds the dashboards of deploy/k8s/sirdar/dashboards again.
dashboards: setup
	$(BIN)/python -m deploy.dashboards

# Makes the schema of the Helm chart's values, and the plain manifests, again.
chart: setup
	$(BIN)/python -m deploy.chart

# Locks again what the images install. LINKS= is where PyTorch's wheel for CPUs is.
image-requirements: setup
	$(BIN)/python -m deploy.images --find-links $(LINKS)

# Installs what each image does, into clean environments, and starts each tier from there.
test-images: setup
	$(BIN)/python -m deploy.images.trial $(SETS)

# Advances what `check` compares the contract with. Deliberate: say why in the commit.
proto-image: setup
	$(BIN)/buf build --output protos/released.binpb

test: setup
	$(BIN)/pytest

# 200,000 random operations with kills against the retriever, for four hours at most. SEED=,
# OPERATIONS=, SECONDS= change it; as root its disk is full now and then.
chaos: setup
	$(BIN)/python -m tests.chaos.model $(if $(SEED),--seed $(SEED)) \
		$(if $(OPERATIONS),--operations $(OPERATIONS)) $(if $(SECONDS),--seconds $(SECONDS)) $(ARGS)

# Restarts the processes of a cluster in turn, under load, and adds retrievers and takes them away.
test-cluster: setup
	$(BIN)/python -m tests.chaos.cluster.planned $(ARGS)

# Kills the processes of a cluster one after the other, under load, for ten minutes. ARGS= are
# options, such as --seed and --seconds.
chaos-cluster: setup
	$(BIN)/python -m tests.chaos.cluster $(ARGS)

demo: setup
	$(BIN)/python -m services.stack.demo

bench-quality: setup
	$(BIN)/python -m benchmarks.quality

bench-embedder: setup
	$(BIN)/python -m benchmarks.embedder $(ARGS)

bench-gateway: setup
	$(BIN)/python -m benchmarks.gateway $(ARGS)

# Where there is an NVIDIA GPU, with PyTorch for it and nvidia-ml-py.
bench-gpu: setup
	$(BIN)/python -m benchmarks.gpu $(ARGS)

bench-reranker: setup
	$(BIN)/python -m benchmarks.reranker

bench-retriever: setup
	$(BIN)/python -m benchmarks.retriever $(ARGS)

bench-smoke: setup
	$(BIN)/python -m benchmarks.smoke

clean:
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .import_linter_cache clients/python/sirdar/v1
	find . -name __pycache__ -prune -exec rm -rf {} +
