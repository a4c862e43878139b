"""Which of several beats fires: the one whose insert goes in."""

from __future__ import annotations

from sqlalchemy import Connection, text

#: The moment is the database's clock cut to the interval, so beats with wrong clocks agree. Old fires go as new come.
FIRE = text("""
WITH old AS (
    DELETE FROM orchestrator.schedule_fire WHERE schedule = :schedule
       AND fire_at < clock_timestamp() - interval '1 hour' - CAST(:interval AS float8) * interval '2 seconds'
)
INSERT INTO orchestrator.schedule_fire (schedule, fire_at, tenant)
VALUES (:schedule, to_timestamp(CAST(:interval AS float8) *
    floor(extract(epoch FROM clock_timestamp())::float8 / CAST(:interval AS float8))), :tenant)
ON CONFLICT DO NOTHING RETURNING fire_at
""")


def fire(connection: Connection, schedule: str, interval: float, tenant: str) -> bool:
    """Whether this caller is the one to fire a schedule for the present interval of so many seconds."""
    parameters = {"schedule": schedule, "interval": interval, "tenant": tenant}
    return connection.execute(FIRE, parameters).first() is not None
