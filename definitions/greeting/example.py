"""What the example does, checked on real workers by `orchestrator examples`."""

from __future__ import annotations

from definitions.play import Play

WORKFLOW = "greeting"
SAMPLE = {"name": "Ada"}


def check_greeted(play: Play) -> None:
    """somebody is greeted, and the greeting is signed"""
    play.same(play.output(play.start(WORKFLOW, SAMPLE)), "Hello, Ada! -- the orchestrator", "the output")
