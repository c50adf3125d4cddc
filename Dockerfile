# One image for the three services; the command chooses which one a container is.
FROM python:3.11-slim AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /build
COPY pyproject.toml README.md LICENSE ./
COPY headrace ./headrace
RUN python -m venv /opt/headrace \
    && /opt/headrace/bin/pip install '.[speed,prometheus,cli,demo]'

FROM python:3.11-slim
ENV PATH=/opt/headrace/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    HEADRACE_DATA=/var/lib/headrace \
    HEADRACE_LOG_FORMAT=json
RUN useradd --system --uid 10001 --home-dir /srv --shell /usr/sbin/nologin headrace \
    && install -d -o headrace -g headrace /srv /var/lib/headrace
COPY --from=build /opt/headrace /opt/headrace
WORKDIR /srv
COPY schemas ./schemas
COPY tables ./tables
COPY agents ./agents
COPY app ./app
USER headrace
VOLUME /var/lib/headrace
EXPOSE 6066
# Live, not ready: a container that restores for an hour is healthy.
HEALTHCHECK --interval=5s --timeout=3s --start-period=20s --retries=3 \
    CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:6066/livez', timeout=2)"]
STOPSIGNAL SIGTERM
CMD ["headrace", "-A", "app.loyalty", "worker", "-l", "info"]
