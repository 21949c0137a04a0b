# Every image of Parley, one stage per service: docker build --target gateway .
# (gateway, session, tools, notify, jobs, understudy.)
#
# Packages come from the hashed locks into one folder of wheels; a service then installs, from that folder
# alone, what it and parley-common declare and nothing else. The embedded broker and the test tools are
# development extras: the first is struck from the lock here, the second have a lock of their own, so that no
# image can hold either. The speech models are in the understudy's image only.
#
# A registry that needs settings of its own takes them as a build secret, which no layer keeps:
#   docker build --secret id=pip_conf,src=/path/to/pip.conf --target gateway .

ARG BASE_IMAGE=python:3.11-slim-bookworm

# -- wheels: everything of requirements.lock, checked against its hashes -----------------------------
FROM ${BASE_IMAGE} AS wheels
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_CACHE_DIR=/var/cache/pip
WORKDIR /build
COPY requirements.lock ./
RUN --mount=type=cache,target=/var/cache/pip --mount=type=secret,id=pip_conf,target=/etc/pip.conf \
    awk '/^[a-z]/ { keep = !/^noida-db==/ } keep' requirements.lock > image.lock \
    && python3 -m pip wheel --quiet --no-deps --only-binary :all: --require-hashes -r image.lock -w /wheels

FROM wheels AS voice-wheels
COPY requirements-voice.lock ./
RUN --mount=type=cache,target=/var/cache/pip --mount=type=secret,id=pip_conf,target=/etc/pip.conf \
    python3 -m pip wheel --quiet --no-deps --only-binary :all: --require-hashes -r requirements-voice.lock -w /wheels

# -- one environment per service: from here on, no registry is asked ---------------------------------
FROM wheels AS builder
ENV PIP_NO_INDEX=1 PIP_FIND_LINKS=/wheels
RUN python3 -m venv --without-pip /opt/venv
COPY libs/common libs/common

FROM builder AS build-gateway
COPY services/gateway services/gateway
RUN python3 -m pip --python /opt/venv/bin/python install --quiet --no-cache-dir ./libs/common ./services/gateway

FROM builder AS build-session
COPY services/session services/session
RUN python3 -m pip --python /opt/venv/bin/python install --quiet --no-cache-dir ./libs/common ./services/session

FROM builder AS build-tools
COPY services/tools services/tools
RUN python3 -m pip --python /opt/venv/bin/python install --quiet --no-cache-dir ./libs/common ./services/tools

FROM builder AS build-notify
COPY services/notify services/notify
RUN python3 -m pip --python /opt/venv/bin/python install --quiet --no-cache-dir ./libs/common ./services/notify

# The launcher declares the embedded broker, which jobs never starts: its other packages are named here.
FROM builder AS build-jobs
COPY services/tools services/tools
COPY services/notify services/notify
COPY libs/launcher libs/launcher
RUN python3 -m pip --python /opt/venv/bin/python install --quiet --no-cache-dir \
        ./libs/common ./services/tools ./services/notify httpx rich typer websockets \
    && python3 -m pip --python /opt/venv/bin/python install --quiet --no-cache-dir --no-deps ./libs/launcher

FROM voice-wheels AS build-understudy
ENV PIP_NO_INDEX=1 PIP_FIND_LINKS=/wheels
RUN python3 -m venv --without-pip /opt/venv
COPY libs/common libs/common
COPY libs/understudy libs/understudy
RUN python3 -m pip --python /opt/venv/bin/python install --quiet --no-cache-dir \
        ./libs/common './libs/understudy[voice]'

# -- what every image is at run time -----------------------------------------------------------------
FROM ${BASE_IMAGE} AS runtime
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.vendor="Parley" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
# By number, so that an orchestrator can see that it is not root. The state folder is the only one written to,
# beside /tmp: the root file system may be read-only.
RUN groupadd --gid 10001 parley \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin parley \
    && install -d -o 10001 -g 10001 -m 0750 /var/lib/parley
ENV PATH=/opt/venv/bin:${PATH} PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
WORKDIR /opt/parley
USER 10001:10001
STOPSIGNAL SIGTERM

FROM runtime AS service
ENV PARLEY_BUSINESSES_DIR=/opt/parley/businesses PARLEY_STATE_DIR=/var/lib/parley PARLEY_LOG_FORMAT=json
COPY businesses businesses

# -- the images. Exec form: the service is process 1 and gets SIGTERM itself --------------------------
FROM service AS gateway
LABEL org.opencontainers.image.title="parley-gateway" \
      org.opencontainers.image.description="Terminates client audio sockets and places each session"
COPY --from=build-gateway /opt/venv /opt/venv
ENV GATEWAY_HOST=0.0.0.0 GATEWAY_PORT=8080
EXPOSE 8080
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s --retries=3 \
    CMD ["python", "-IS", "-c", "import http.client as h, os, sys; c = h.HTTPConnection('127.0.0.1', int(os.environ['GATEWAY_PORT']), timeout=2); c.request('GET', '/healthz'); sys.exit(c.getresponse().status != 200)"]
ENTRYPOINT ["parley-gateway"]

FROM service AS session
LABEL org.opencontainers.image.title="parley-session" \
      org.opencontainers.image.description="Conducts each session between its caller and the model"
COPY --from=build-session /opt/venv /opt/venv
ENV SESSION_HOST=0.0.0.0 SESSION_PORT=8081
EXPOSE 8081
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s --retries=3 \
    CMD ["python", "-IS", "-c", "import http.client as h, os, sys; c = h.HTTPConnection('127.0.0.1', int(os.environ['SESSION_PORT']), timeout=2); c.request('GET', '/healthz'); sys.exit(c.getresponse().status != 200)"]
ENTRYPOINT ["parley-session"]

FROM service AS tools
LABEL org.opencontainers.image.title="parley-tools" \
      org.opencontainers.image.description="Executes tool calls, keeps leads and cases"
COPY --from=build-tools /opt/venv /opt/venv
ENV TOOLS_HOST=0.0.0.0 TOOLS_PORT=8082
EXPOSE 8082
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s --retries=3 \
    CMD ["python", "-IS", "-c", "import http.client as h, os, sys; c = h.HTTPConnection('127.0.0.1', int(os.environ['TOOLS_PORT']), timeout=2); c.request('GET', '/healthz'); sys.exit(c.getresponse().status != 200)"]
ENTRYPOINT ["parley-tools"]

FROM service AS notify
LABEL org.opencontainers.image.title="parley-notify" \
      org.opencontainers.image.description="Tells facts by e-mail and signed webhook"
COPY --from=build-notify /opt/venv /opt/venv
ENV NOTIFY_HOST=0.0.0.0 NOTIFY_PORT=8083
EXPOSE 8083
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s --retries=3 \
    CMD ["python", "-IS", "-c", "import http.client as h, os, sys; c = h.HTTPConnection('127.0.0.1', int(os.environ['NOTIFY_PORT']), timeout=2); c.request('GET', '/healthz'); sys.exit(c.getresponse().status != 200)"]
ENTRYPOINT ["parley-notify"]

# Runs to its end: `topics apply`, `migrate`. Nothing listens, so there is no health to ask for.
FROM runtime AS jobs
LABEL org.opencontainers.image.title="parley-jobs" \
      org.opencontainers.image.description="Applies topics and migrations, then exits"
COPY --from=build-jobs /opt/venv /opt/venv
ENV PARLEY_STATE_DIR=/var/lib/parley
HEALTHCHECK NONE
ENTRYPOINT ["parley"]
CMD ["--help"]

# It stands in for a stranger's API and refuses PARLEY_ settings: it is no `service`.
FROM runtime AS understudy
LABEL org.opencontainers.image.title="parley-understudy" \
      org.opencontainers.image.description="A local stand-in for the Realtime API, for development"
COPY --from=build-understudy /opt/venv /opt/venv
ENV UNDERSTUDY_HOST=0.0.0.0 UNDERSTUDY_PORT=8090
EXPOSE 8090
HEALTHCHECK --interval=10s --timeout=3s --start-period=60s --retries=3 \
    CMD ["python", "-IS", "-c", "import http.client as h, os, sys; c = h.HTTPConnection('127.0.0.1', int(os.environ['UNDERSTUDY_PORT']), timeout=2); c.request('GET', '/healthz'); sys.exit(c.getresponse().status != 200)"]
ENTRYPOINT ["python", "-m", "parley_understudy.app"]
