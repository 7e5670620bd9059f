# Thin wrappers: everything is a dvc or pytest command that can also be typed.
PYTHON ?= python3
export PATH := $(CURDIR)/.venv/bin:$(PATH)

.PHONY: help setup video lock data results small board docs stories mishaps test fixtures torture fuzz processors pythons mutants blender wheel check
help:
	@echo "make results   set up, fetch the data, run the pipeline, print the table"
	@echo "make video     what \`poselift lift\` needs for videos: a detector and its model, 100 MB of packages"
	@echo "make small     the same with a small experiment, in a minute or two"
	@echo "make board     a page of what was and is run"
	@echo "make docs      the documentation as a site, in docs/site"
	@echo "make stories   run the commands of every page of the documentation; minutes"
	@echo "make mishaps   kill stages while they write, read hostile files; a minute or two"
	@echo "make test      set up and run the tests"
	@echo "make fixtures  run made-up Human3.6M, HumanEva-I and MPI-INF-3DHP from raw files to the table"
	@echo "make torture   kill the pipeline at 20 instants and see what survives, with other mishaps; an hour"
	@echo "make fuzz      feed every reader with damaged files; MINUTES=2 is for each, an hour in all"
	@echo "make processors  which processors compute the same bits; needs qemu-user; ten minutes"
	@echo "make pythons   run the tests on other Pythons; PYTHONS='python3.10 python3.13'; needs gigabytes of packages"
	@echo "make mutants   change the formulas, one at a time, and see whether the tests notice; an hour"
	@echo "make blender   open what lifting writes in Blender itself; Python 3.11, a gigabyte of packages"
	@echo "make wheel     build the wheel, check it, use it in an empty environment; gigabytes of packages"
	@echo "make check     lint, types and the order of imports"

setup: .venv/installed .venv/dvc-patched

# torch comes first and without a hash, so that a machine may have a build of its own (for CPUs alone, say); the last
# line but two brings the CUDA packages that other builds ask for.
PIP = .venv/bin/python -m pip --quiet --disable-pip-version-check
HASHED = --no-deps --require-hashes
.venv/installed: requirements/base.txt requirements/base.lock pyproject.toml
	$(PYTHON) -c "import sys; sys.exit(None if sys.version_info >= (3, 10) else 'poselift needs Python 3.10 or newer')"
	$(PYTHON) -m venv .venv
	$(PIP) install --no-deps $$(grep '^torch==' requirements/base.txt)
	$(PIP) install $(HASHED) -r requirements/base.lock
	$(PIP) install -r requirements/base.txt
	$(PIP) install --no-deps --no-build-isolation --editable .
	$(PIP) check
	touch .venv/installed

# Queued experiments that share a stage must not fail one another, see docs/many_machines.md.
DVC_PATCH = $(CURDIR)/requirements/dvc.patch
.venv/dvc-patched: .venv/installed requirements/dvc.patch
	cd -P "$$(.venv/bin/python -c 'import dvc; print(dvc.__path__[0])')/.." && \
		{ git apply --reverse --check $(DVC_PATCH) 2> /dev/null || git apply $(DVC_PATCH); }
	touch .venv/dvc-patched

# The detector for videos. Its model is assembled from an older release of the package, see the module that does it.
DETECTOR_MODEL = data/detectors/pose_landmarker_full.task
video: $(DETECTOR_MODEL)
	dvc pull --quiet data/lifter/run0
$(DETECTOR_MODEL): .venv/video-installed
	poselift detector-model $@
.venv/video-installed: .venv/installed requirements/video.lock
	$(PIP) install $(HASHED) -r requirements/video.lock
	touch .venv/video-installed

# All versions of all dependencies with their hashes, for every Python and system; torch and what it brings excepted.
LOCK = uv pip compile --universal --python-version 3.10 --no-header --quiet
CUDA = cuda-bindings cuda-pathfinder cuda-toolkit triton nvidia-cublas nvidia-cuda-cupti nvidia-cuda-nvrtc \
	nvidia-cuda-runtime nvidia-cudnn-cu13 nvidia-cufft nvidia-cufile nvidia-curand nvidia-cusolver nvidia-cusparse \
	nvidia-cusparselt-cu13 nvidia-nccl-cu13 nvidia-nvjitlink nvidia-nvshmem-cu13 nvidia-nvtx
lock:
	cat requirements/*.lock > .venv/all.txt # versions that uv keeps where nothing asks for others
	$(LOCK) -o .venv/all.txt requirements/base.txt requirements/s3.txt requirements/docs.txt requirements/video.txt
	for part in base s3 docs video; do $(LOCK) --generate-hashes -c .venv/all.txt -o requirements/$$part.lock \
		$(addprefix --no-emit-package=,torch $(CUDA)) requirements/$$part.txt; done

# From the store inside the repository: no network.
data: setup
	dvc pull --quiet data/raw/cmu_mocap data/raw/mocap_bodies

results: data
	dvc repro
	@cat reports/results.md

# What it changes in params.yaml stays changed: `git checkout . && dvc checkout` goes back.
SMALL = -S 'seeds=[0,1]' -S frames=9 -S datasets.mocap.epochs=2 -S datasets.mocap.windows_per_epoch=64 -S datasets.mocap.frame_step=9
small: data
	dvc exp run $(SMALL)
	@cat reports/results.md

board: setup
	poselift board

docs: .venv/docs-installed
	sphinx-build --fail-on-warning --quiet --nitpicky -c docs . docs/site
	@echo "docs/site/docs/index.html"

stories: data
	python -m pytest -n 2 -m stories tests/end_to_end

.venv/docs-installed: .venv/installed requirements/docs.lock
	$(PIP) install $(HASHED) -r requirements/docs.lock
	touch .venv/docs-installed

mishaps: data
	python -m pytest -n 2 -m mishaps tests/end_to_end

test: data
	python -m pytest -n 2

fixtures: setup
	python -m tests.trials.run_fixtures

torture: data
	python -m tests.trials.torture
	python -m tests.trials.reliability_page

processors: data
	python -m tests.trials.processors
	python -m tests.trials.reliability_page

PYTHONS = python3.10 python3.13
pythons: data
	python -m tests.trials.pythons $(PYTHONS)
	python -m tests.trials.reliability_page

MINUTES = 2
fuzz: data
	.venv/bin/python -m pip install --quiet --disable-pip-version-check atheris==3.0.0
	python -m tests.trials.fuzz --minutes $(MINUTES)

mutants: .venv/mutants-installed
	python -m tests.trials.mutants
	python -m tests.trials.reliability_page

.venv/mutants-installed: .venv/installed requirements/mutants.txt
	.venv/bin/python -m pip install --quiet --disable-pip-version-check -r requirements/mutants.txt -c requirements/base.txt
	touch .venv/mutants-installed

BLENDER_PYTHON = python3.11
blender: data
	test -d .work/blender || $(BLENDER_PYTHON) -m venv .work/blender
	.work/blender/bin/python -m pip install --quiet --disable-pip-version-check bpy==5.0.1
	dvc pull --quiet data/lifter/run0
	python -m tests.trials.blender .work/blender/bin/python

wheel: .venv/wheel-installed
	python -m tests.trials.wheel

.venv/wheel-installed: .venv/installed requirements/wheel.txt
	$(PIP) install -r requirements/wheel.txt -c requirements/base.txt
	touch .venv/wheel-installed

check: setup
	ruff check .
	ruff format --check .
	mypy
	lint-imports
