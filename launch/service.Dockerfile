# The image of a server for other organisations, and of its clients: an unprivileged user, nothing but hybridface.
FROM python:3.11-slim-bookworm
WORKDIR /opt/hybridface
COPY . .
# Install torch without CUDA, as in the Makefile. gcc and make are needed only for this.
RUN apt-get update \
    && apt-get install -y --no-install-recommends gcc make \
    && python -m pip install --no-cache-dir --constraint constraints.txt --no-deps \
        --index-url https://download.pytorch.org/whl/cpu torch==2.13.0+cpu \
    && python -m pip install --no-cache-dir --constraint constraints.txt . \
    && apt-get purge -y --auto-remove gcc make \
    && rm -rf /var/lib/apt/lists/* /opt/hybridface/* \
    && useradd --create-home --uid 10001 hybridface
USER 10001
# Compiled arithmetic and caches go here; everything else may be read-only.
ENV XDG_CACHE_HOME=/home/hybridface/.cache NUMBA_CACHE_DIR=/home/hybridface/.cache/numba
VOLUME ["/home/hybridface"]
EXPOSE 7461
ENTRYPOINT ["hybridface"]
