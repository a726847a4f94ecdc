# Training and export, on a machine with or without a GPU, from the root of the repository:
#   docker build -f docker/ground.Dockerfile -t aerial-ground .
#   docker run --rm --gpus all --shm-size 2g --user "$(id -u):$(id -g)" -v "$PWD/work:/work" aerial-ground \
#       aerial-train segmenter --name seg --backgrounds photos/
# The default torch brings CUDA (some gigabytes); --build-arg TORCH_INDEX=URL takes it from an index of your choice.
ARG BASE=python:3.12-slim-bookworm

FROM ${BASE}
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python3 -m venv /opt/aerial
WORKDIR /src
COPY constraints.txt ./
ARG TORCH_INDEX=
RUN /opt/aerial/bin/python -m pip install -c constraints.txt ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} torch
COPY pyproject.toml hatch_build.py README.md LICENSE ./
COPY train/ train/
COPY export/ export/
COPY runtime/ runtime/
ARG COMMIT=
RUN AERIAL_COMMIT="$COMMIT" /opt/aerial/bin/python -m pip install -c constraints.txt '.[cpu,train,export]'
ENV PATH=/opt/aerial/bin:$PATH HOME=/tmp
WORKDIR /work
LABEL org.opencontainers.image.title="aerial-ground" \
      org.opencontainers.image.description="aerial: training, evaluation and export" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.revision="${COMMIT}"
# Any user may run it; what it makes belongs to them: docker run --user.
USER 10001
CMD ["aerial-train", "--help"]
