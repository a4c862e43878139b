# One image for every role: worker, beat, migrate, flower.
FROM python:3.13-slim

ENV PYTHONUNBUFFERED=1 PIP_NO_CACHE_DIR=1
WORKDIR /app

COPY pyproject.toml README.md LICENSE ./
COPY orchestrator ./orchestrator
COPY migrations ./migrations
COPY definitions ./definitions
RUN pip install '.[flower]'

COPY workers ./workers

RUN useradd --create-home app
USER app

ENTRYPOINT ["orchestrator"]
CMD ["worker"]
