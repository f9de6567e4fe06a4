# The project's code location, served over gRPC on port 4000 to a Dagster webserver and daemon.
# That port has no authentication, so it is served on loopback only: docs/threats.md says how to open it.
# Debian's own Python 3.11 is used; `make image` builds this file, starts it and asks it for its definitions.

# A tag can be moved: a deployment builds with --build-arg BASE=docker.io/library/debian@sha256:... of a base it checked.
ARG BASE=docker.io/library/debian:bookworm-slim
FROM $BASE AS build
RUN apt-get update -qq \
 && apt-get install -y -qq --no-install-recommends ca-certificates python3.11 python3.11-venv \
 && rm -rf /var/lib/apt/lists/*
# Packages are fetched with the certificates of the machine, so that a company's own authority can be added there.
ENV UV_NATIVE_TLS=1 UV_NO_CACHE=1 UV_LINK_MODE=copy UV_NO_CONFIG=1 PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /build
COPY requirements/build.txt requirements/refold.txt requirements/
RUN python3.11 -m venv tools \
 && tools/bin/pip install -q --require-hashes -r requirements/build.txt \
 && python3.11 -m venv --without-pip /opt/refold \
 && tools/bin/uv pip install -q --python /opt/refold/bin/python --require-hashes -r requirements/refold.txt
COPY pyproject.toml README.md ./
COPY refold refold
RUN tools/bin/python -m build --wheel --no-isolation --outdir dist \
 && tools/bin/uv pip install -q --python /opt/refold/bin/python --no-deps dist/*.whl \
 && /opt/refold/bin/python -m compileall -q /opt/refold/lib

FROM $BASE
RUN apt-get update -qq \
 && apt-get install -y -qq --no-install-recommends ca-certificates python3.11 \
 && rm -rf /var/lib/apt/lists/* \
 && useradd --uid 10001 --create-home --home-dir /var/lib/refold refold \
 && install -d -o refold -g refold /var/lib/refold/dagster /var/lib/refold/numba
COPY --from=build /opt/refold /opt/refold
WORKDIR /app
COPY pyproject.toml workspace.yaml ./
COPY assets assets
COPY resources resources
COPY dagster_project dagster_project
COPY examples examples
COPY --chown=refold:refold dagster.yaml /var/lib/refold/dagster/dagster.yaml
# A deployment sets the three places; here they are below the home of the user. numba would keep compiled rules beside
# the source, which this user cannot write.
ENV PATH=/opt/refold/bin:/usr/bin:/bin HOME=/var/lib/refold DAGSTER_HOME=/var/lib/refold/dagster \
    REFOLD_LANDING=/var/lib/refold/landing REFOLD_STORE=/var/lib/refold/store \
    REFOLD_DATABASE=sqlite:////var/lib/refold/refold.db \
    NUMBA_CACHE_DIR=/var/lib/refold/numba PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
USER refold
EXPOSE 4000
HEALTHCHECK --interval=30s --timeout=20s --start-period=60s --retries=3 \
  CMD ["dagster", "api", "grpc-health-check", "-p", "4000"]
CMD ["dagster", "code-server", "start", "-m", "dagster_project.definitions", "-d", "/app", "-p", "4000"]
