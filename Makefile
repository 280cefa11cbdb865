# `make` alone says what each target does. Everything lives in .venv; nothing is installed elsewhere.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

PYTHON ?= python3
# Which build of PyTorch: auto (a wheel that pip finds locally, else the CPU build unless there is an NVIDIA GPU),
# cpu, or default (what PyPI gives, with CUDA on Linux).
TORCH ?= auto
TORCH_VERSION := $(shell sed -n 's/^torch==//p' constraints.txt)
# Benchmarks: Parquet files with a column `text`, of messages and of long texts; without one the texts are made.
TEXTS ?=
LONG_TEXTS ?=
REPEATS ?= 3

WORKLOADS = $(if $(TEXTS),--short $(TEXTS)) $(if $(LONG_TEXTS),--long $(LONG_TEXTS))

BIN := .venv/bin
READY := .venv/.ready
CLASSES := .venv/spark.jsa
# Spark's scripts take the python and the Spark that stand first on the PATH.
ACTIVE := PATH="$(CURDIR)/$(BIN):$$PATH" PYSPARK_PYTHON="$(CURDIR)/$(BIN)/python"

.PHONY: help
help:  ## say what each target does
	@echo "usage: make TARGET"
	@sed -n 's/^\([a-z0-9-]*\):.*  ## \(.*\)/  \1|\2/p' Makefile | sort | column -t -s '|'

.PHONY: setup
setup: $(READY)  ## make .venv with everything: PyTorch, Spark, the demo's encoder, the test tools

$(READY): setup.py constraints.txt scripts/setup.sh
	@PYTHON="$(PYTHON)" TORCH="$(TORCH)" TORCH_VERSION="$(TORCH_VERSION)" scripts/setup.sh .venv
	@touch $@

.PHONY: demo
demo: $(READY)  ## build the default model, make a corpus, score it, show the result through SQL and as a page
	@$(BIN)/python -m bigfive_udf.demo.bank --output demo/statements --if-missing
	@test -e models/default || { echo; echo '$$ python jobs/train.py --config conf/demo_train.yaml'; \
		$(BIN)/python jobs/train.py --config conf/demo_train.yaml; }
	@$(BIN)/python -m bigfive_udf.demo.corpus --output demo/corpus --authors demo/authors.parquet --if-missing
	@echo; echo '$$ spark-submit --properties-file conf/spark/laptop.conf jobs/score.py --config conf/demo.yaml'
	@$(ACTIVE) spark-submit --properties-file conf/spark/laptop.conf \
		--driver-java-options -Dlog4j2.configurationFile=file:conf/spark/log4j2.properties \
		jobs/score.py --config conf/demo.yaml 2> >(grep -v 'incubator modules' >&2)
	@echo
	@$(BIN)/python -m bigfive_udf.demo.show --table demo/scores --corpus demo/corpus --authors demo/authors.parquet
	@echo; echo '$$ spark-submit --properties-file conf/spark/laptop.conf jobs/report.py --config conf/demo_report.yaml'
	@$(ACTIVE) spark-submit --properties-file conf/spark/laptop.conf \
		--driver-java-options -Dlog4j2.configurationFile=file:conf/spark/log4j2.properties \
		jobs/report.py --config conf/demo_report.yaml 2> >(grep -v 'incubator modules' >&2)
	@$(BIN)/python -m bigfive_udf.demo.queries

# Spark's own shell, in the session's time zone; its embedded metastore is made by the score job, in this directory.
.PHONY: sql
sql: $(READY)  ## open a spark-sql shell on the demo's table, which make demo makes
	@test -e metastore_db || { echo "error: there is no table yet: run make demo first" >&2; exit 1; }
	@$(BIN)/python -m bigfive_udf.demo.queries
	@$(ACTIVE) spark-sql --properties-file conf/spark/laptop.conf --conf spark.sql.session.timeZone=UTC \
		--driver-java-options -Dlog4j2.configurationFile=file:conf/spark/log4j2.properties \
		2> >(grep -v 'incubator modules' >&2)

# Many tests start JVMs, which takes most of their time.
$(CLASSES): $(READY) scripts/class_archive.sh scripts/class_archive.py
	@$(ACTIVE) scripts/class_archive.sh $@

.PHONY: test
test: $(CLASSES)  ## run the tests, all but those marked slow
	@$(ACTIVE) $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

.PHONY: test-slow
test-slow: $(CLASSES)  ## run the slow tests: the default model as demo builds it, a cluster, two training processes
	@$(ACTIVE) $(BIN)/python -m pytest -m slow

.PHONY: chaos
chaos: $(CLASSES)  ## kill real nights at many points, and prove that nothing is lost, doubled or half-written
	@$(ACTIVE) $(BIN)/python -m pytest -s -m chaos tests/chaos

.PHONY: lint
lint: $(READY)  ## check format, style and types
	@$(BIN)/ruff format --check --quiet . || { echo "run: $(BIN)/ruff format ." >&2; exit 1; }
	@$(BIN)/ruff check --quiet .
	@$(BIN)/mypy --no-error-summary bigfive_udf jobs benchmarks

# Needs PyPI's JSON interface, which mirrors often lack: so it is no part of test.
.PHONY: audit
audit: $(READY)  ## ask PyPI whether a pinned dependency has a known vulnerability (installs pip-audit)
	@test -x .venv-audit/bin/pip-audit || { $(BIN)/python -m venv .venv-audit && .venv-audit/bin/pip install -q pip-audit; }
	@.venv-audit/bin/pip-audit --strict --no-deps --disable-pip -r constraints.txt

.PHONY: bench
bench: $(READY)  ## texts/s of scoring and fine-tuning against the usual ways, on two cores (TEXTS=, LONG_TEXTS=)
	@mkdir -p build
	@$(ACTIVE) $(BIN)/python -m benchmarks.score --repeats $(REPEATS) --output build/bench.json $(WORKLOADS)
	@$(BIN)/python -m benchmarks.picture build/bench.json build/bench.png
	@$(BIN)/python -m benchmarks.finetune --repeats $(REPEATS) --output build/bench-finetune.json $(if $(TEXTS),--short $(TEXTS))

# Other engines in an environment of their own, on top of what .venv has.
.PHONY: bench-peers
bench-peers: $(READY)  ## the same against ONNX Runtime and OpenVINO without Spark, and Ray, Daft and MLflow (installs them)
	@test -e .venv-peers/.ready || scripts/peers.sh $(BIN)/python .venv-peers
	@mkdir -p build
	@.venv-peers/bin/python -m benchmarks.loops --repeats $(REPEATS) --output build/bench-peers.json $(WORKLOADS)
	@$(BIN)/python -m benchmarks.picture build/bench-peers.json build/bench-peers.png
	@.venv-peers/bin/python -m benchmarks.frameworks --repeats $(REPEATS) --output build/bench-frameworks.json \
		$(if $(TEXTS),--short $(TEXTS))

.PHONY: test-spark35
test-spark35: $(READY)  ## run the core tests on the newest pyspark 3.5, in an environment of its own
	@test -x .venv-spark35/bin/pytest || PYTHON="$(PYTHON)" TORCH="$(TORCH)" TORCH_VERSION="$(TORCH_VERSION)" \
		SPARK='pyspark>=3.5,<3.6' scripts/setup.sh .venv-spark35
	@PATH="$(CURDIR)/.venv-spark35/bin:$$PATH" PYSPARK_PYTHON="$(CURDIR)/.venv-spark35/bin/python" \
		.venv-spark35/bin/python -m pytest tests/model tests/spark tests/jobs

.PHONY: dist
dist: $(READY)  ## make dist/: the wheel, the zip for --py-files, the jobs and the settings
	@scripts/dist.sh $(BIN)/python

.PHONY: clean
clean:  ## remove what was built: demo, its model, the local metastore (not .venv, nor other models)
	@rm -rf build dist demo models/default models/default.job ./*.egg-info spark-warehouse spark-events metastore_db derby.log
