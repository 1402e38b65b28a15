# The runtime layer: Python, the libraries of the operating system, and the start script. Base and the models are not in it; they come as
# pexes in dist/, mounted or copied in by an image on top of this one.
FROM python:3.11-slim

# A fixed uid, so that owners of mounted folders can be set from outside.
RUN groupadd --gid 10001 pexdock \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /pexdock --shell /usr/sbin/nologin pexdock \
    && install -d -o pexdock -g pexdock /pexdock /pexdock/dist /pexdock/artifacts /pexdock/cache /pexdock/state

COPY entrypoint.sh /pexdock/entrypoint.sh
RUN chmod 0755 /pexdock/entrypoint.sh

WORKDIR /pexdock
USER 10001:10001

# The lag gives whoever routes to a container time to hear that it ends; `docker stop` and Kubernetes send SIGTERM before they tell everybody.
# Inside a container only its own network sees the port; which of its doors are open is decided outside.
ENV PEXDOCK_HOST=0.0.0.0 \
    PEXDOCK_PORT=8080 \
    PEXDOCK_CACHE_PATH=/pexdock/cache \
    PEXDOCK_STATE_PATH=/pexdock/state \
    PEXDOCK_PRE_STOP_DELAY_S=2 \
    PYTHONUNBUFFERED=1

# The cache holds the unpacked base and one venv of links a release: as a volume it outlives the container, and the next start is quick. The
# state holds what operators said of models, which should outlive it, too.
VOLUME /pexdock/cache /pexdock/state
EXPOSE 8080
STOPSIGNAL SIGTERM

# The first start unpacks and compiles base, which takes a minute or two on a small machine. A proxy in the environment is not for us. Nobody can
# sit between a container and itself, so its certificate is not looked at. Where clients must have one, override this check.
HEALTHCHECK --interval=10s --timeout=5s --start-period=300s --retries=3 CMD ["python3", "-c", "import os, ssl, urllib.request as r; e = os.environ; s = 'https' if e.get('PEXDOCK_TLS_CERT_PATH') else 'http'; t = r.HTTPSHandler(context=ssl._create_unverified_context()); r.build_opener(r.ProxyHandler({}), t).open(f'{s}://127.0.0.1:{e[\"PEXDOCK_PORT\"]}/readyz', timeout=4)"]

ENTRYPOINT ["/pexdock/entrypoint.sh"]
