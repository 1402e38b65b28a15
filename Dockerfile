# The runtime layer: Python, the libraries of the operating system, and the start script. It contains neither base nor models: they are pexes
# in dist/, which is mounted, or filled by an image on top of this one.
FROM python:3.11-slim

# A fixed uid, so that the owner of mounted folders can be set from outside.
RUN groupadd --gid 10001 pexdock \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /pexdock --shell /usr/sbin/nologin pexdock \
    && install -d -o pexdock -g pexdock /pexdock /pexdock/dist /pexdock/artifacts /pexdock/cache /pexdock/state

COPY entrypoint.sh /pexdock/entrypoint.sh
RUN chmod 0755 /pexdock/entrypoint.sh

WORKDIR /pexdock
USER 10001:10001

# The delay gives load balancers time to notice that a container stops: `docker stop` and Kubernetes send SIGTERM before they update routes.
# The host is 0.0.0.0 because a container has a network of its own; its ports are published from outside.
ENV PEXDOCK_HOST=0.0.0.0 \
    PEXDOCK_PORT=8080 \
    PEXDOCK_CACHE_PATH=/pexdock/cache \
    PEXDOCK_STATE_PATH=/pexdock/state \
    PEXDOCK_PRE_STOP_DELAY_S=2 \
    PYTHONUNBUFFERED=1

# The cache holds the unpacked base and a venv of links for each release: as a volume it outlives the container, so the next start is fast. The
# state holds traffic policies, such as pins and splits, which should outlive the container, too.
VOLUME /pexdock/cache /pexdock/state
EXPOSE 8080
STOPSIGNAL SIGTERM

# The first start unpacks and compiles base, which takes a minute or two on a small machine. The check ignores proxies in the environment, and
# the certificate, since the connection stays inside the container. Override it if clients must present a certificate.
HEALTHCHECK --interval=10s --timeout=5s --start-period=300s --retries=3 CMD ["python3", "-c", "import os, ssl, urllib.request as r; e = os.environ; h = (e.get('PEXDOCK_HOST') or '127.0.0.1').split(',')[0]; h = {'0.0.0.0': '127.0.0.1', '::': '[::1]'}.get(h, f'[{h}]' if ':' in h else h); s = 'https' if e.get('PEXDOCK_TLS_CERT_PATH') else 'http'; t = r.HTTPSHandler(context=ssl._create_unverified_context()); r.build_opener(r.ProxyHandler({}), t).open(f'{s}://{h}:{e[\"PEXDOCK_PORT\"]}/readyz', timeout=4)"]

ENTRYPOINT ["/pexdock/entrypoint.sh"]
