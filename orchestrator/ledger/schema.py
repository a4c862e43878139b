"""What the ledger's tables are made of."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sqlalchemy import Column, DateTime, MetaData, Text, text
from sqlalchemy.dialects.postgresql import DOMAIN
from sqlalchemy.types import UserDefinedType

from orchestrator.model.state import FINAL_EXECUTIONS, SETTLED_STEPS

SCHEMA = "orchestrator"
metadata = MetaData(
    schema=SCHEMA,
    naming_convention={"pk": "pk_%(table_name)s", "ix": "ix_%(table_name)s_%(column_0_N_name)s"},
)


class Xid8(UserDefinedType[str]):
    """A 64-bit transaction id: comparable with snapshots, never reused."""

    cache_ok = True

    def get_col_spec(self, **_: Any) -> str:
        return "xid8"


class Snapshot(UserDefinedType[str]):
    """Which transactions were visible at a moment (pg_snapshot)."""

    cache_ok = True

    def get_col_spec(self, **_: Any) -> str:
        return "pg_snapshot"


def sql_list(values: Iterable[str]) -> str:
    """'a', 'b': constants of our own for the inside of IN (...)."""
    return ", ".join(f"'{value}'" for value in sorted(values))


#: An open step. `step_settled_iff_settled_at` makes it the same as a list of the open statuses, which would cost every
#: insert and update the parsing of that list again, wherever it stands in an index.
OPEN = "settled_at IS NULL"
SETTLED = sql_list(SETTLED_STEPS)
FINAL = sql_list(FINAL_EXECUTIONS)

NOW = text("clock_timestamp()")
TIME = DateTime(timezone=True)


def status_domain(name: str, values: Iterable[str]) -> DOMAIN:
    """A domain: its check is kept parsed for the session, where a CHECK constraint is parsed by every statement."""
    check = f"VALUE IN ({sql_list(values)})"
    return DOMAIN(name, Text(), check=check, constraint_name=f"{name}_known", metadata=metadata)


def tenant_column() -> Column[str]:
    """Every table has it."""
    return Column("tenant", Text, nullable=False)
