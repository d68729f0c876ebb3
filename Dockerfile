# Kaizen with all that it needs.
#   docker build -t kaizen .
#   docker run --rm -v kaizen-store:/home/kaizen/store kaizen                     # the experiment of params.yaml
# With CUDA (a base image for the driver of the host, and torch as PyPI has it):
#   docker build -t kaizen-cuda --build-arg BASE=nvidia/cuda:12.6.3-base-ubuntu24.04 --build-arg TORCH_INDEX= .
#   docker run --rm --gpus all -v kaizen-store:/home/kaizen/store kaizen-cuda
ARG BASE=python:3.11-slim-bookworm

# What a checkout needs of the system; .devcontainer/ stops here.
FROM ${BASE} AS tools
RUN apt-get update \
    && apt-get install -y --no-install-recommends git make openssh-client \
    && { command -v python3 >/dev/null || apt-get install -y --no-install-recommends python3 python3-venv; } \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home kaizen
USER kaizen
# Where pip also looks for torch: a build without CUDA, which is much smaller.
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
ENV PIP_EXTRA_INDEX_URL=${TORCH_INDEX} PIP_NO_CACHE_DIR=1

FROM tools AS kaizen
WORKDIR /home/kaizen/kaizen
COPY --chown=kaizen:kaizen . .
RUN make setup VENV=/home/kaizen/venv && mkdir /home/kaizen/store
ENV PATH=/home/kaizen/venv/bin:$PATH KAIZEN_STORE=/home/kaizen/store
VOLUME /home/kaizen/store
CMD ["snakemake"]
