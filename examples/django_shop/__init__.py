"""A Django application whose views start workflows in Django's own transactions.

celery -A examples.django_shop.orchestration worker -Q orchestrator,orchestrator.sweeps

Reads ORCHESTRATOR_DATABASE_URL and ORCHESTRATOR_BROKER_URL; Django's database is the ledger's.
"""
