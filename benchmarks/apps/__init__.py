"""The Celery applications that the benchmarks' workers are started with."""
