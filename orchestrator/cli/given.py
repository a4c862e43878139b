"""What users give on the command line."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click

from orchestrator import durations


def json_data(context: click.Context, parameter: click.Parameter, value: str | None) -> Any:
    """The data in JSON text, in a file behind an @, or on standard input for -; says where it is no JSON."""
    if value is None:
        return None
    text, source = value, "the input"
    try:
        if text == "-":
            text, source = sys.stdin.read(), "standard input"
        elif text.startswith("@"):
            source = text[1:]
            text = Path(source).read_text(encoding="utf-8")
        return json.loads(text)
    except OSError as error:
        raise click.BadParameter(f"cannot read {source}: {error.strerror}") from None
    except ValueError as error:
        raise click.BadParameter(f"{source} is no JSON: {error}") from None


def labelled(context: click.Context, parameter: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
    """name=value texts by name."""
    found = {}
    for value in values:
        name, equals, text = value.partition("=")
        if not name or not equals:
            raise click.BadParameter(f"{value!r} is no label; write name=value")
        found[name] = text
    return found


def duration(context: click.Context, parameter: click.Parameter, value: str | None) -> float | None:
    """The seconds of a length of time: 90, 1h30m, 7d, P1DT2H; a wrong one says what is accepted."""
    try:
        return None if value is None else durations.seconds(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None
