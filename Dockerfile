# Two images, both from the locks: `docker build --target cpu .` (the embedded model, tests, evaluation by a server) and
# `docker build --target cuda .` (vLLM rollouts and evaluation on NVIDIA GPUs; run it with `--gpus all`).
FROM python:3.11-slim-bookworm AS base
RUN apt-get update && apt-get install --yes --no-install-recommends gcc g++ git make && rm -rf /var/lib/apt/lists/*
ENV UV_LINK_MODE=copy VIRTUAL_ENV=/opt/venv PATH=/opt/venv/bin:$PATH
WORKDIR /r1reward
COPY requirements.lock ./
RUN pip install --no-cache-dir "$(sed -n 's/^\(uv==[0-9.]*\).*/\1/p' requirements.lock)" && uv venv /opt/venv

FROM base AS cpu
RUN uv pip install --no-cache --requirements requirements.lock
COPY . .
RUN uv pip install --no-cache --no-deps --editable .
ENTRYPOINT ["python", "-m"]
CMD ["r1reward.train", "--help"]

FROM base AS cuda
COPY requirements-vllm.lock ./
RUN uv pip install --no-cache --requirements requirements-vllm.lock
COPY . .
RUN uv pip install --no-cache --no-deps --editable .
ENTRYPOINT ["python", "-m"]
CMD ["r1reward.train", "--help"]
