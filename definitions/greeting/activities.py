"""What the greeting's steps do."""

from __future__ import annotations

from orchestrator import activity


@activity
def compose_greeting(name: str) -> dict[str, str]:
    """Greet somebody by name."""
    return {"text": f"Hello, {name}!"}


@activity
def sign_greeting(text: str, sender: str) -> dict[str, str]:
    """Put the sender's name under a text."""
    return {"text": f"{text} -- {sender}"}
