"""Conditions, in SQL, of what is held by nobody who lives.

`<row>` stands for the row that names an owner, and since when that has held it.
"""

from __future__ import annotations

#: Held by nodes that are gone.
GONE = """EXISTS (
    SELECT FROM orchestrator.worker w WHERE (w.buried_at IS NOT NULL OR w.stopped_at IS NOT NULL)
      AND w.boot_id = split_part(<row>.owner, '.', 1))"""
#: Held by pool children, or threads of theirs, that their living node no longer lists. A child's first claim may
#: precede the first heartbeat that lists it, so only older claims count. Pools without processes list none, and lose
#: none.
LOST_CHILD = """EXISTS (
    SELECT FROM orchestrator.worker w WHERE w.buried_at IS NULL AND w.stopped_at IS NULL
      AND w.boot_id = split_part(<row>.owner, '.', 1) AND cardinality(w.children) > 0
      AND NOT split_part(split_part(<row>.owner, '.', 2), '-', 1)::int = ANY(w.children || w.pid)
      AND <row>.started_at < w.seen - interval '5 seconds')"""
