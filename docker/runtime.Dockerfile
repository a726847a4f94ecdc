# What flies. On a Jetson (JetPack 6), from the root of the repository:
#   docker build -f docker/runtime.Dockerfile -t aerial .
# On a laptop or in CI, x86 or arm64, without a GPU: --build-arg BASE=debian:bookworm-slim. See docs/jetson.md.
# The base brings Python, CUDA and TensorRT; where it has no CUDA, the models fly by ONNX Runtime on the CPU.
ARG BASE=nvcr.io/nvidia/l4t-jetpack:r36.4.0

FROM ${BASE} AS build
ENV DEBIAN_FRONTEND=noninteractive PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
# The base decides which versions its system packages have. A compiler only for pycuda, which comes as source; binutils
# for its strip.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends binutils python3 python3-venv \
    && if [ -d /usr/local/cuda ]; then apt-get install -y --no-install-recommends g++ python3-dev; fi \
    && rm -rf /var/lib/apt/lists/*
COPY docker/requirements/ /src/docker/requirements/
WORKDIR /src/docker/requirements
# TensorRT's bindings are the system Python's, so the environment that flies sees its packages.
RUN python3 -m venv /opt/tools && python3 -m venv --system-site-packages /opt/aerial \
    && /opt/tools/bin/python -m pip install --require-hashes --only-binary :all: -r tools.txt
# What the base may have of these is passed over: what flies is what is locked.
RUN /opt/aerial/bin/python -m pip install --ignore-installed --require-hashes --only-binary :all: -r flight.txt
RUN if [ -d /usr/local/cuda ]; then \
        PATH="/usr/local/cuda/bin:$PATH" /opt/tools/bin/python -m pip wheel --require-hashes --no-deps \
            --no-build-isolation --only-binary :all: --no-binary pycuda --wheel-dir /wheels -r engines.txt \
        && /opt/aerial/bin/python -m pip install --ignore-installed --no-deps /wheels/*.whl; \
    fi
# What never flies: pip, others' tests, OpenCV's trained faces, ONNX Runtime's tools and its second copy for C, zstandard
# for PyPy, and the debugging symbols of zstandard and lz4. Others' libraries are left as they are: strip can spoil what
# was patched to find its neighbours.
# hadolint ignore=DL3003
RUN /opt/aerial/bin/python -m pip uninstall --yes pip setuptools \
    && cd /opt/aerial/lib/python3.*/site-packages \
    && find numpy -type d -name tests -prune -exec rm -r {} + \
    && rm -r cv2/data/*.xml onnxruntime/transformers onnxruntime/tools onnxruntime/quantization \
    && rm -f onnxruntime/capi/libonnxruntime.so* \
    && rm zstandard/_cffi.*.so \
    && find zstandard lz4 -name '*.so' -exec strip --strip-unneeded {} +
# What is ours comes last and is a layer of its own: a change of it builds, and is sent to the aircraft, in seconds.
WORKDIR /src
COPY pyproject.toml hatch_build.py README.md LICENSE ./
COPY train/ train/
COPY export/ export/
COPY runtime/ runtime/
ARG COMMIT=
RUN AERIAL_COMMIT="$COMMIT" /opt/tools/bin/python -m pip wheel --no-deps --no-build-isolation --wheel-dir /wheel . \
    && /opt/tools/bin/python -m pip install --no-deps --prefix /ours /wheel/*.whl \
    && sed -i '1s#/opt/tools/#/opt/aerial/#' /ours/bin/* \
    && cp -a /opt/aerial /whole && cp -a /ours/. /whole/ \
    && /opt/tools/bin/cyclonedx-py environment --output-reproducible --of JSON --output-file /ours/sbom.cdx.json \
        /whole/bin/python
COPY docker/start.sh docker/prepare.py docker/healthcheck.py /ours/libexec/

FROM ${BASE}
# GStreamer as it is: csi:// and pipelines run in its own tool, OpenCV's wheel has none. On a Jetson NVIDIA's elements
# for it are mounted by the nvidia runtime.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends python3 \
        gstreamer1.0-tools gstreamer1.0-plugins-base gstreamer1.0-plugins-good \
    && rm -rf /var/lib/apt/lists/* /var/cache/apt/* \
    && useradd --uid 10001 --user-group --groups video --no-create-home --home-dir /var/lib/aerial \
        --shell /usr/sbin/nologin aerial \
    && install --directory --owner aerial --group aerial \
        /var/lib/aerial /var/lib/aerial/models /var/lib/aerial/recordings
COPY --from=build /opt/aerial /opt/aerial
COPY --from=build /ours /opt/aerial
# The root is read-only in flight: what is cached goes to /tmp.
ENV PATH=/opt/aerial/bin:$PATH PYTHONDONTWRITEBYTECODE=1 XDG_CACHE_HOME=/tmp \
    NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=all
USER 10001
WORKDIR /var/lib/aerial
ARG BASE
ARG COMMIT=
LABEL org.opencontainers.image.title="aerial" \
      org.opencontainers.image.description="On-aircraft target detection: the flight daemon" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.base.name="${BASE}" \
      org.opencontainers.image.revision="${COMMIT}"
# The check itself asks twice and ends by itself; engines and cameras need time to start.
HEALTHCHECK --interval=10s --timeout=30s --start-period=120s --retries=3 \
    CMD ["python", "/opt/aerial/libexec/healthcheck.py"]
ENTRYPOINT ["/bin/sh", "/opt/aerial/libexec/start.sh"]
CMD ["aerial-runtime", "--camera", "demo", "--metrics-port", "9100"]
