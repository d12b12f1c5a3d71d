# The daemon with its runtime dependencies, all of them from the hash-pinned lock.
#   docker build -t transcriptd .
#   docker run --read-only -v SESSIONS:/data:ro -v STATE:/state --env-file transcriptd.env transcriptd
ARG BASE=python:3.11-slim-bookworm

FROM ${BASE} AS build
WORKDIR /src
COPY requirements.lock ./
# The lock's own pip first: older ones do not take hashes from a constraints file.
RUN awk '/^[a-z]/ { keep = /^pip==/ } keep' requirements.lock > pip.lock \
    && python3 -m venv /build \
    && /build/bin/pip install --no-cache-dir --quiet --require-hashes --requirement pip.lock \
    && /build/bin/pip install --no-cache-dir --quiet \
        --require-hashes --constraint requirements.lock hatchling
COPY . .
RUN /build/bin/pip wheel --quiet --no-deps --no-build-isolation --wheel-dir /dist .
# With its hash beside it the wheel passes --require-hashes like all that it depends on.
RUN python3 -m venv --without-pip /opt/transcriptd \
    && sha256sum /dist/*.whl > /dist/sums \
    && awk '{ print $2 " --hash=sha256:" $1 }' /dist/sums > /dist/requirements.txt \
    && /build/bin/pip --python /opt/transcriptd/bin/python install --no-cache-dir --quiet \
        --require-hashes --constraint requirements.lock --requirement /dist/requirements.txt

FROM ${BASE}
RUN install -d -o 65532 -g 65532 -m 0700 /state
COPY --from=build /opt/transcriptd /opt/transcriptd
# Agents' sessions are looked for in /data/sessions. The journal, the socket and, where no S3 store
# is configured, the archive lie under /state: nothing else is ever written. Any user will do who can
# write there and read the sessions; none needs an entry in /etc/passwd.
ENV PATH=/opt/transcriptd/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    HOME=/state \
    CODETETHER_DATA_DIR=/data \
    TRANSCRIPTD_STATE_DIR=/state \
    XDG_DATA_HOME=/state
VOLUME /state
USER 65532:65532
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=5s --start-period=20s --retries=3 \
    CMD ["transcriptd", "health", "--live"]
ENTRYPOINT ["transcriptd"]
CMD ["run"]
