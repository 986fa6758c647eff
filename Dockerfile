# syntax=docker/dockerfile:1
# The gateway's image: one image for every role; compose and the command line choose the role.

FROM python:3.11-slim AS build
COPY requirements.txt .
RUN python -m venv /opt/venv \
    && /opt/venv/bin/pip install --no-cache-dir --disable-pip-version-check --requirement requirements.txt

FROM python:3.11-slim
# A fixed id, so that a bind-mounted data directory can be given to it: chown 10001:10001.
RUN groupadd --gid 10001 gateway \
    && useradd --uid 10001 --gid gateway --no-create-home --home-dir /app gateway \
    # A new named volume takes over owner and mode from here.
    && install --directory --owner gateway --group gateway --mode 0700 /data
COPY --from=build /opt/venv /opt/venv
WORKDIR /app
COPY . .
RUN /opt/venv/bin/python -m compileall -q .
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    GATEWAY_DATA_DIR=/data \
    HOST=0.0.0.0 \
    PORT=8080
USER gateway
VOLUME /data
EXPOSE 8080
# `manage.py serve` is safe as process 1: it handles SIGTERM from its first line, waits for every child it
# starts, and starts none that outlive it. So there is no init in between.
ENTRYPOINT ["python", "manage.py"]
CMD ["serve"]
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "deploy/healthcheck.py", "http", "/ready"]
