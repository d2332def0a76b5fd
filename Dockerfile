# The service alone: Redis and PostgreSQL are elsewhere, so that the servers from wheels stay out.
FROM python:3.12-slim AS build
WORKDIR /build
RUN python -m venv /opt/lastro
COPY pyproject.toml constraints.txt README.md ./
COPY app app
COPY lua lua
COPY persistence persistence
RUN /opt/lastro/bin/pip install --no-cache-dir --constraint constraints.txt . \
 && /opt/lastro/bin/pip uninstall --yes pip

FROM python:3.12-slim
ENV PATH=/opt/lastro/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
RUN useradd --system --uid 10001 --no-create-home --shell /usr/sbin/nologin lastro \
 && install --directory --owner 10001 --mode 0700 /backups
COPY --from=build /opt/lastro /opt/lastro
USER 10001
EXPOSE 8000
ENTRYPOINT ["lastro"]
CMD ["api"]
