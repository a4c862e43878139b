"""The smallest workflow: two steps, written in YAML (greeting.yaml)."""

from definitions.greeting.activities import compose_greeting, sign_greeting

__all__ = ["compose_greeting", "sign_greeting"]
