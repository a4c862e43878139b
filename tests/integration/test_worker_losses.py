"""Messages that are lost with the broker's memory, a backlog that only looks like it, and beats that go away."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress

import pytest
from nodes.process_nodes import BeatNode, WorkerNode
from nodes.site import WORK, Pool, Site, settled_once
from nodes.waiting import eventually

from orchestrator import ControlRefused, ExecutionHandle

pytest_plugins = ("nodes.fixtures",)

SLOTS = 2
FIRES = "SELECT count(*) FROM orchestrator.schedule_fire WHERE schedule = 'orchestrator.timers'"

PROBES = f"SELECT id FROM orchestrator.probe WHERE queue = '{WORK}'"


@pytest.fixture(scope="module")
def pools() -> Sequence[Pool]:
    return [Pool(name="narrow", concurrency=SLOTS)]


@pytest.fixture(scope="module")
def second_beat(site: Site) -> Iterator[BeatNode]:
    """Another beat beside the site's."""
    node = site.beat("second-beat")
    assert node.ready()
    yield node
    node.teardown()


def occupy(site: Site) -> list[ExecutionHandle]:
    """Fill every slot of the pool with a step that waits."""
    handles = [site.start("plain-hold") for _ in range(SLOTS)]
    for handle in handles:
        site.call(handle, "work")
    return handles


def test_steps_whose_messages_the_broker_forgot_are_published_again(
    site: Site, worker: WorkerNode, second_beat: BeatNode
) -> None:
    blocking = occupy(site)
    handles = [site.start(name) for name in ("quick", "fan-2", "steady") for _ in range(5)]
    assert site.broker.length(WORK) == 20
    site.broker.flush()
    for handle in blocking:
        site.open(handle)
    for handle in (*blocking, *handles):
        handle.result(30)
        settled_once(site, handle)
        calls = Counter(call.path for call in site.witness.calls(handle.id))
        assert set(calls.values()) == {1}, calls


def test_a_backlog_behind_busy_workers_is_not_published_again(
    site: Site, worker: WorkerNode, second_beat: BeatNode
) -> None:
    with site.traffic() as traffic:
        blocking = occupy(site)
        handles = [site.start("quick") for _ in range(20)]
        # The sweep has looked, has sent its probe behind the backlog, and has looked several times since.
        eventually(lambda: site.execute(f"{PROBES} AND sent_at IS NOT NULL"), "a probe is sent")
        fires = site.value(FIRES)
        eventually(lambda: site.value(FIRES) >= fires + 6, "sweeps go on")
        # The probe is among them.
        assert len([message for message in site.waiting(WORK) if message.task == "orchestrator.segment"]) == 20
        for handle in (*blocking, *handles):
            if handle in blocking:
                site.open(handle)
            handle.result(30)
        eventually(lambda: not site.execute(PROBES), "the probe has come back")
        published = Counter(message.args[0] for message in traffic.segments())
    assert {published[handle.id] for handle in (*blocking, *handles)} == {1}


def test_a_message_is_missed_though_its_queue_is_never_empty(
    site: Site, worker: WorkerNode, second_beat: BeatNode
) -> None:
    """Redis keeps a list for each priority, and reads one of a lower priority only while all others are empty."""
    blocking = occupy(site)
    lost = site.start("quick")
    assert site.broker.length(WORK) == 1
    site.broker.drop(WORK)
    others, shortest, deadline = [], SLOTS, time.monotonic() + 60
    while lost.status() == "running":
        assert time.monotonic() < deadline, "it is not missed"
        if (length := site.broker.length(WORK)) < 2 * SLOTS:
            others.append(site.start("slow-steps"))
        elif blocking:
            site.open(blocking.pop())
        else:
            shortest = min(shortest, length)
    assert lost.result(1) == 1
    assert shortest > 0
    for handle in others:
        with suppress(ControlRefused):
            site.orchestrator.cancel(handle.id, actor="ann", reason="a test")
    eventually(lambda: {handle.status() for handle in others} <= {"cancelled", "succeeded"}, "they have ended")


def test_two_beats_fire_once_and_one_goes_on_alone(site: Site, worker: WorkerNode) -> None:
    beats = [site.beat(name) for name in ("third-beat", "fourth-beat")]
    assert all(beat.ready() for beat in beats)
    try:
        with site.traffic() as traffic:
            fires = site.value(FIRES)
            eventually(lambda: site.value(FIRES) >= fires + 6, "three beats fire")
            beats[0].kill()
            fires_then = site.value(FIRES)
            eventually(lambda: site.value(FIRES) >= fires_then + 6, "the others go on")
            sent, fired = len(traffic.sweeps("timers")), site.value(FIRES) - fires
        # A fire and its message are two moments; a killed beat may have been between them.
        assert fired - 2 <= sent <= fired + 2
        gap = site.value(
            "SELECT extract(epoch FROM max(gap)) FROM (SELECT fire_at - lag(fire_at) OVER (ORDER BY fire_at) AS gap "
            "FROM (SELECT fire_at FROM orchestrator.schedule_fire WHERE schedule = 'orchestrator.timers' "
            "ORDER BY fire_at DESC LIMIT 12) AS recent) AS gaps"
        )
        assert gap <= 2
        assert site.start("flaky").result(10) == 3
    finally:
        for beat in beats:
            beat.teardown()
