"""Beat on the ledger: every beat is active, and a fire is an insert.

Each entry of the application's beat schedule, and each sweep, may be sent once per interval: the beat whose insert of
(schedule, moment) goes in sends it. So two beats fire once, and killing one leaves no gap. A schedule of the
application's that is no plain interval (crontab, solar) fires once a minute at most, which is as fine as they get.
"""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import Any

from celery.beat import ScheduleEntry, Scheduler
from celery.schedules import schedule
from sqlalchemy.exc import SQLAlchemyError

from orchestrator.dispatch.publish import SWEEP_TASK
from orchestrator.ledger import fires
from orchestrator.recovery.sweeps import SWEEPS

logger = logging.getLogger("orchestrator.beat")

#: The finest interval of schedules that are not plain intervals, in seconds.
MINUTE = 60.0
#: A beat sleeps no longer than this, in seconds, so that it takes over quickly where another stops.
MAX_SLEEP = 0.5


class LedgerScheduler(Scheduler):
    """Use it as `celery -A yours beat --scheduler orchestrator.recovery.beat:LedgerScheduler`."""

    def __init__(self, app: Any, *args: Any, max_interval: float | None = None, **kwargs: Any) -> None:
        super().__init__(app, *args, max_interval=min(max_interval or MAX_SLEEP, MAX_SLEEP), **kwargs)

    def setup_schedule(self) -> None:
        """The application's own entries, and the sweeps that are switched on."""
        self.install_default_entries(self.data)
        self.update_from_dict(self.app.conf.beat_schedule)
        core = self.app.orchestrator.core
        self._sweeps = {f"orchestrator.{name}": name for name in SWEEPS}
        for sweep in SWEEPS.values():
            interval = sweep.interval(core.settings)
            if interval:
                self.data[f"orchestrator.{sweep.name}"] = self.Entry(
                    f"orchestrator.{sweep.name}",
                    SWEEP_TASK,
                    schedule=schedule(timedelta(seconds=interval)),
                    args=(sweep.name,),
                    # Late ones are worthless: the next is due.
                    options={"queue": core.settings.sweep_queue, "expires": max(interval * 2, 5)},
                    app=self.app,
                )

    def adjust(self, n: Any, drift: float = 0.0) -> Any:
        """Wake when an entry is due. Celery's own scheduler wakes 10 ms before, and then asks again and again until it
        is: with entries every few seconds, that was most of a beat's work."""
        return super().adjust(n, drift)

    def apply_async(self, entry: ScheduleEntry, producer: Any = None, advance: bool = True, **kwargs: Any) -> Any:
        """Send an entry's message if this beat is the first to fire it for the present interval."""
        # Taken first, whoever sends: this entry is next due one interval from now.
        if advance:
            self.reserve(entry)
        if not self._is_ours(entry):
            return None
        if entry.name in self._sweeps:
            # By our own publisher: one that RabbitMQ has not got is no fire, and a broker that is silent holds nobody.
            sweep, options = self._sweeps[entry.name], entry.options
            self.app.orchestrator.core.publisher.sweep(sweep, options["queue"], options["expires"])
            return None
        return super().apply_async(entry, producer=producer, advance=False, **kwargs)

    def _is_ours(self, entry: ScheduleEntry) -> bool:
        core = self.app.orchestrator.core
        plain = type(entry.schedule) is schedule
        interval = entry.schedule.run_every.total_seconds() if plain else MINUTE
        try:
            with core.database.connect() as connection:
                return fires.fire(connection, entry.name, interval, core.settings.tenant)
        except SQLAlchemyError as error:
            logger.warning(
                "no fire: the database does not answer", extra={"schedule": entry.name, "reason": str(error)}
            )
            return False
