"""A FastAPI application whose handlers start workflows in the transaction that writes their own rows.

uvicorn --factory examples.fastapi_shop.app:create_app
celery -A examples.fastapi_shop.worker worker -Q orchestrator,orchestrator.sweeps

Both read ORCHESTRATOR_DATABASE_URL and ORCHESTRATOR_BROKER_URL; the shop's table is in the ledger's database.
"""
