"""Django's settings: one database, which the ledger shares, and one application."""

from __future__ import annotations

import os
from urllib.parse import unquote, urlsplit

_database = urlsplit(os.environ["ORCHESTRATOR_DATABASE_URL"])

SECRET_KEY = os.environ.get("DJANGO_SECRET_KEY", "only-for-this-example")
ALLOWED_HOSTS = ["127.0.0.1", "testserver"]
INSTALLED_APPS = ["examples.django_shop"]
ROOT_URLCONF = "examples.django_shop.urls"
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.postgresql",
        "HOST": _database.hostname,
        "PORT": _database.port or 5432,
        "NAME": _database.path.removeprefix("/"),
        "USER": unquote(_database.username or ""),
        "PASSWORD": unquote(_database.password or ""),
    },
    # A database that is not the ledger's.
    "notes": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"},
}
CELERY_BROKER_URL = os.environ["ORCHESTRATOR_BROKER_URL"]
CELERY_TASK_IGNORE_RESULT = True
