"""How many ready steps sweeps have published again, counted by the database as it happens."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from fault_suite.stack import Stack

#: Share that may be, of steps that wait.
SHARE = 0.01
#: A publish of what was ready already gives the row a new transaction to be visible by.
_COUNT = (
    "CREATE TABLE public.republished (execution uuid, path text)",
    """CREATE FUNCTION public.count_republished() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN INSERT INTO public.republished VALUES (NEW.execution_id, NEW.path); RETURN NULL; END $$""",
    """CREATE TRIGGER count_republished AFTER UPDATE ON orchestrator.step FOR EACH ROW
    WHEN (OLD.status = 'ready' AND NEW.status = 'ready' AND OLD.ready_xid <> NEW.ready_xid <which>)
    EXECUTE FUNCTION public.count_republished()""",
)
_FORGET = (
    "DROP TRIGGER count_republished ON orchestrator.step",
    "DROP FUNCTION public.count_republished",
    "DROP TABLE public.republished",
)


@contextmanager
def counted(stack: Stack, *, queue: str | None = None) -> Iterator[Callable[[], int]]:
    """Count until the end, in one queue or in all; gives how many so far, and afterwards how many in all."""
    which = f"AND NEW.queue = '{queue}'" if queue else ""
    for statement in _COUNT:
        stack.execute(statement.replace("<which>", which))
    found: list[int] = []

    def so_far() -> int:
        return found[0] if found else int(stack.value("SELECT count(*) FROM public.republished"))

    try:
        yield so_far
    finally:
        found.append(so_far())
        for statement in _FORGET:
            stack.execute(statement)
