from __future__ import annotations

from typing import Any

import pytest

from orchestrator.current import get_current, set_current
from orchestrator.errors import ConfigurationError


class Recorder:
    def start(self, name: str, input: Any = None, **options: Any) -> Any:  # noqa: A002 - the facade's word
        return name, input, options


def test_without_an_orchestrator_the_error_says_what_to_create() -> None:
    set_current(None)
    with pytest.raises(ConfigurationError, match=r"create Orchestrator\(\) first"):
        get_current()


def test_the_last_orchestrator_set_is_the_current_one() -> None:
    first, second = Recorder(), Recorder()
    try:
        set_current(first)
        set_current(second)
        assert get_current() is second
    finally:
        set_current(None)
