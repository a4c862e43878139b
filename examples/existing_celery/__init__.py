"""A Celery application that was there first: its tasks, chords, results and schedule stay as they are.

celery -A examples.existing_celery.app worker -Q celery,orchestrator,orchestrator.sweeps
celery -A examples.existing_celery.app beat --scheduler orchestrator.recovery.beat:LedgerScheduler

Reads ORCHESTRATOR_DATABASE_URL, ORCHESTRATOR_BROKER_URL and EXISTING_RESULT_URL (Redis).
"""
