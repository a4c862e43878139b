"""State machines in their written forms."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from orchestrator.authoring.nodes import MachineNode, Node, TransitionNode, Where, in_seconds, listed


def machine_node(fields: Mapping[str, Any], transitions: Iterable[TransitionNode]) -> MachineNode:
    """A machine from its written fields: `states` may be a list of names, and `final` names those that end it."""
    written = dict(fields)
    final = written.pop("final", None)
    states = written.get("states")
    if isinstance(states, list | tuple) and all(isinstance(name, str) for name in states):
        states = dict.fromkeys(states)
    if isinstance(states, Mapping):
        found = {name: {} if state is None else state for name, state in states.items()}
        for name in listed(final) or ():
            state = found.get(name, {})
            found[name] = {**state, "final": True} if isinstance(state, Mapping) else state
        written["states"] = found
    return MachineNode(fields=written, transitions=tuple(transitions))


def transition_node(fields: Mapping[str, Any], nodes: Iterable[Node], *, where: Where = ()) -> TransitionNode:
    """A transition from its written fields: lone texts stand for lists of one, and durations may be texts."""
    written, problems = dict(fields), list[str]()
    for name in ("from", "actors"):
        if name in written:
            written[name] = listed(written[name])
    for name in ("after", "timeout"):
        if name in written:
            written[name] = in_seconds(name, written[name], problems)
    label = f"transition to {written.get('to')}"
    return TransitionNode(
        fields=written, nodes=tuple(nodes), problems=tuple(f"{label}: {each}" for each in problems), where=where
    )
