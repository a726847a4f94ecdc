# One command in, one command out. PYTHON chooses the interpreter, BACKGROUNDS a folder of photos for the benchmarks of
# scenes and training, PEER the ONNX file of another detector to be timed beside ours.
PYTHON ?= python3
FLIGHT := .venv-flight
DEV := .venv
PHOTOS := $(if $(BACKGROUNDS),--backgrounds $(BACKGROUNDS))
INSTALL := -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

, := ,
# $(call train,KIND,NAME,OPTIONS): a training, or the rest of one that was stopped.
train = $(DEV)/bin/aerial-train $(1) --name $(2) $(if $(wildcard runs/$(2)),--resume,$(PHOTOS) $(3))
# $(call mine,NAME,SEGMENTER,CLASSIFIER): the false alarms of two models; a folder that is there stays.
mine = $(if $(wildcard runs/$(1)),,$(DEV)/bin/aerial-train mine --out runs/$(1) --frames 1600 $(PHOTOS) \
	--segmenter runs/$(2).pt --classifier runs/$(3).pt $(4))
mean = $(DEV)/bin/aerial-train average $(2) --out runs/$(1).pt --overwrite
MUON := --optimizer muon --warm-up 0.03
MISSES := --loss "tversky(0.3,0.7)+bce"
CROPS := --batch 128 --held-out-data scenes
LETTERS := $(CROPS) --head-weights heading=2,letter=1.5

.PHONY: demo test check check-aarch64 lock test-image models bench bench-training soak setup clean

demo: $(FLIGHT)/.installed  ## install the flight package alone and fly the shipped demo flight
	$(FLIGHT)/bin/aerial-runtime --camera demo

test: check  ## all checks and tests, as CI runs them
	$(DEV)/bin/pytest

check: setup
	$(DEV)/bin/ruff check .
	$(DEV)/bin/ruff format --check .
	$(DEV)/bin/mypy
	$(DEV)/bin/lint-imports

check-aarch64: setup  ## everything that flies has a wheel for a Jetson; asks the package index, downloads nothing
	$(DEV)/bin/python docker/check_aarch64.py

lock:  ## pin and hash what the image installs; needs uv
	sh docker/lock.sh

test-image:  ## build the flight image without Docker and fly it: root, buildah and debootstrap; ten minutes
	$(PYTHON) tests/system/image.py

models: setup  ## train, measure and bundle the shipped models in runs/: many hours; goes on where it was stopped
	$(call train,segmenter,segmenter)
	$(call train,segmenter,segmenter-2,$(MISSES) --init runs/segmenter/best.pt --lr 1.5e-3 --warm-up 0.05 --epochs 15 --seed 1)
	$(call train,segmenter,segmenter-3,$(MISSES) --init runs/segmenter-2/best.pt $(MUON) --lr 2e-3 --epochs 46 --seed 2)
	$(call train,segmenter,segmenter-4,$(MISSES) --init runs/segmenter-3/best.pt $(MUON) --lr 1.5e-3 --epochs 38 --seed 3)
	$(call train,segmenter,segmenter-5,$(MISSES) --init runs/segmenter-4/last.pt $(MUON) --lr 1e-3 --epochs 7 --seed 4)
	$(call train,segmenter,segmenter-6,$(MISSES) --init runs/segmenter-4/last.pt $(MUON) --lr 1e-3 --epochs 7 --seed 5)
	$(call mean,segmenter,$(foreach n,4 5 6,runs/segmenter-$(n)/last.pt))
	$(call train,classifier,classifier)
	$(call train,classifier,classifier-2,--init runs/classifier/best.pt $(MUON) --lr 2e-3 --batch 128 --epochs 20 --seed 1)
	$(call mine,mined,segmenter-3/best,classifier-2/last)
	$(call train,classifier,classifier-3,$(CROPS) --data scenes=0.85$(,)runs/mined/=0.15 --head-weights heading=3 \
		--init runs/classifier-2/last.pt $(MUON) --lr 2.5e-3 --epochs 10 --seed 2)
	$(call mine,mined-2,segmenter-3/best,classifier-3/last)
	$(call train,classifier,classifier-4,$(CROPS) --data scenes=0.92$(,)runs/mined-2/=0.08 --head-weights heading=2 \
		--init runs/classifier-3/last.pt $(MUON) --lr 1.5e-3 --epochs 12 --seed 3)
	$(call mine,mined-3,segmenter-3/best,classifier-4/last)
	$(call train,classifier,classifier-5,$(LETTERS) --data scenes=0.92$(,)runs/mined-3/=0.08 \
		--init runs/classifier-4/last.pt $(MUON) --lr 1.5e-3 --epochs 27 --seed 4)
	$(call mine,mined-4,segmenter,classifier-5/last,--seed 7)
	$(call train,classifier,classifier-6,$(LETTERS) --data scenes=0.92$(,)runs/mined-4/=0.08 \
		--init runs/classifier-5/last.pt $(MUON) --lr 1e-3 --images-per-epoch 32768 --epochs 5 --seed 6)
	$(call train,classifier,classifier-7,$(LETTERS) --data scenes=0.92$(,)runs/mined-4/=0.08 \
		--init runs/classifier-5/last.pt $(MUON) --lr 1e-3 --images-per-epoch 32768 --epochs 5 --seed 7)
	$(call train,classifier,classifier-8,$(LETTERS) --data scenes=0.92$(,)runs/mined-4/=0.08 \
		--init runs/classifier-5/last.pt $(MUON) --lr 1e-3 --images-per-epoch 32768 --epochs 5 --seed 8)
	$(call mean,classifier,$(foreach n,5 6 7 8,runs/classifier-$(n)/last.pt))
	$(DEV)/bin/aerial-train evaluate runs/segmenter.pt scenes --count 1000 $(PHOTOS) --write --out runs/report-segmenter --overwrite
	$(DEV)/bin/aerial-train evaluate runs/classifier.pt scenes --count 10000 $(PHOTOS) --views 4 \
		--abstain-error 0.25 --write --out runs/report-classifier --overwrite
	$(DEV)/bin/aerial-train certificate $(PHOTOS) --segmenter runs/segmenter.pt --classifier runs/classifier.pt \
		--write --out runs/certificate --overwrite
	$(DEV)/bin/aerial-train evaluate runs/segmenter.pt scenes --count 1000 $(PHOTOS) --write --keep-thresholds
	$(DEV)/bin/aerial-train evaluate runs/classifier.pt scenes --count 10000 $(PHOTOS) --write --keep-thresholds
	$(DEV)/bin/aerial-export runs/segmenter.pt -o runs/models/segmenter.onnx --overwrite
	$(DEV)/bin/aerial-export runs/classifier.pt -o runs/models/classifier.onnx --overwrite
	$(DEV)/bin/aerial-bundle runs/models/segmenter.onnx runs/models/classifier.onnx -o runs/models.aerial --overwrite

bench: setup  ## speed of the whole pipeline beside its models, of a video, the link and scenes; PEER=file.onnx beside us
	$(DEV)/bin/python tests/bench/bench_pipeline.py
	$(if $(PEER),$(DEV)/bin/python tests/bench/bench_peer.py $(PEER))
	$(DEV)/bin/python tests/bench/bench_video.py
	$(DEV)/bin/python tests/bench/bench_publish.py
	$(DEV)/bin/python tests/bench/bench_track.py
	$(DEV)/bin/python tests/bench/bench_record.py
	$(DEV)/bin/python tests/bench/bench_scenes.py $(PHOTOS)

bench-training: setup  ## speed of training beside its data, 0 to 4 workers, and of Muon: a quarter of an hour
	$(DEV)/bin/python tests/bench/bench_muon.py
	$(DEV)/bin/python tests/bench/bench_training.py $(PHOTOS)

soak: setup  ## 100,000 frames with faults through the real daemon, and 10,000 damaged inputs: an hour
	$(DEV)/bin/python tests/bench/soak.py
	$(DEV)/bin/python tests/bench/kills.py
	$(DEV)/bin/python tests/bench/fuzz.py --count 10000

setup: $(DEV)/.installed

$(FLIGHT)/.installed: pyproject.toml constraints.txt $(shell find runtime -type f -not -name '*.pyc')
	$(PYTHON) -m venv $(FLIGHT)
	$(FLIGHT)/bin/python $(INSTALL) '.[cpu]'
	@touch $@

$(DEV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(DEV)
	$(DEV)/bin/python $(INSTALL) --editable '.[dev]'
	@touch $@

clean:
	rm -rf $(FLIGHT) $(DEV)
