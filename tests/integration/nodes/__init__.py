"""Real worker pools, beats and brokers as pytest-celery nodes that are local processes. No Docker is contacted."""
