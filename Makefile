# One command in, one command out. PYTHON chooses the interpreter, BACKGROUNDS a folder of photos for the benchmarks of
# scenes and training, PEER the ONNX file of another detector to be timed beside ours.
PYTHON ?= python3
FLIGHT := .venv-flight
DEV := .venv
PHOTOS := $(if $(BACKGROUNDS),--backgrounds $(BACKGROUNDS))
INSTALL := -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

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

models: setup  ## train, measure and bundle the shipped models in runs/: hours; goes on where it was stopped
	$(DEV)/bin/aerial-train segmenter --name segmenter $(if $(wildcard runs/segmenter),--resume,$(PHOTOS))
	$(DEV)/bin/aerial-train segmenter --name segmenter-2 $(if $(wildcard runs/segmenter-2),--resume,$(PHOTOS) \
		--init runs/segmenter/best.pt --loss "tversky(0.3,0.7)+bce" --lr 1.5e-3 --warm-up 0.05 --epochs 15 --seed 1)
	$(DEV)/bin/aerial-train segmenter --name segmenter-3 $(if $(wildcard runs/segmenter-3),--resume,$(PHOTOS) \
		--init runs/segmenter-2/best.pt --loss "tversky(0.3,0.7)+bce" --optimizer muon --lr 2e-3 --warm-up 0.03 \
		--epochs 46 --seed 2)
	$(DEV)/bin/aerial-train segmenter --name segmenter-4 $(if $(wildcard runs/segmenter-4),--resume,$(PHOTOS) \
		--init runs/segmenter-3/best.pt --loss "tversky(0.3,0.7)+bce" --optimizer muon --lr 1.5e-3 --warm-up 0.03 \
		--epochs 38 --seed 3)
	$(DEV)/bin/aerial-train classifier --name classifier $(if $(wildcard runs/classifier),--resume,$(PHOTOS))
	$(DEV)/bin/aerial-train classifier --name classifier-2 $(if $(wildcard runs/classifier-2),--resume,$(PHOTOS) \
		--init runs/classifier/best.pt --optimizer muon --lr 2e-3 --batch 128 --warm-up 0.03 --epochs 20 --seed 1)
	$(if $(wildcard runs/mined),,$(DEV)/bin/aerial-train mine --out runs/mined --frames 1600 $(PHOTOS) \
		--segmenter runs/segmenter-3/best.pt --classifier runs/classifier-2/last.pt)
	$(DEV)/bin/aerial-train classifier --name classifier-3 $(if $(wildcard runs/classifier-3),--resume,$(PHOTOS) \
		--init runs/classifier-2/last.pt --data scenes=0.85,runs/mined/=0.15 --held-out-data scenes \
		--optimizer muon --lr 2.5e-3 --head-weights heading=3 --batch 128 --warm-up 0.03 --epochs 10 --seed 2)
	$(if $(wildcard runs/mined-2),,$(DEV)/bin/aerial-train mine --out runs/mined-2 --frames 1600 $(PHOTOS) \
		--segmenter runs/segmenter-3/best.pt --classifier runs/classifier-3/last.pt)
	$(DEV)/bin/aerial-train classifier --name classifier-4 $(if $(wildcard runs/classifier-4),--resume,$(PHOTOS) \
		--init runs/classifier-3/last.pt --data scenes=0.92,runs/mined-2/=0.08 --held-out-data scenes \
		--optimizer muon --lr 1.5e-3 --head-weights heading=2 --batch 128 --warm-up 0.03 --epochs 12 --seed 3)
	$(if $(wildcard runs/mined-3),,$(DEV)/bin/aerial-train mine --out runs/mined-3 --frames 1600 $(PHOTOS) \
		--segmenter runs/segmenter-3/best.pt --classifier runs/classifier-4/last.pt)
	$(DEV)/bin/aerial-train classifier --name classifier-5 $(if $(wildcard runs/classifier-5),--resume,$(PHOTOS) \
		--init runs/classifier-4/last.pt --data scenes=0.92,runs/mined-3/=0.08 --held-out-data scenes \
		--optimizer muon --lr 1.5e-3 --head-weights heading=2,letter=1.5 --batch 128 --warm-up 0.03 --epochs 27 \
		--seed 4)
	$(DEV)/bin/aerial-train evaluate runs/segmenter-4/last.pt scenes --count 1000 $(PHOTOS) --write \
		--out runs/segmenter-4/report
	$(DEV)/bin/aerial-train evaluate runs/classifier-5/last.pt scenes --count 10000 $(PHOTOS) --views 4 \
		--abstain-error 0.25 --write --out runs/classifier-5/report
	$(DEV)/bin/aerial-train certificate $(PHOTOS) --segmenter runs/segmenter-4/last.pt \
		--classifier runs/classifier-5/last.pt --write --out runs/certificate --overwrite
	$(DEV)/bin/aerial-train evaluate runs/segmenter-4/last.pt scenes --count 1000 $(PHOTOS) --write --keep-thresholds
	$(DEV)/bin/aerial-train evaluate runs/classifier-5/last.pt scenes --count 10000 $(PHOTOS) --write --keep-thresholds
	$(DEV)/bin/aerial-export runs/segmenter-4/last.pt -o runs/models/segmenter.onnx
	$(DEV)/bin/aerial-export runs/classifier-5/last.pt -o runs/models/classifier.onnx
	$(DEV)/bin/aerial-bundle runs/models/segmenter.onnx runs/models/classifier.onnx -o runs/models.aerial

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
