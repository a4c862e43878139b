"""What an activity says it returns is held against what it returns."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import BaseModel

from orchestrator.activities.result import ResultType
from orchestrator.errors import PayloadError


class Receipt(BaseModel):
    number: int


def receipt() -> Receipt:
    raise NotImplementedError


def anything():  # type: ignore[no-untyped-def]
    raise NotImplementedError


def unresolvable() -> "Nowhere":  # type: ignore[name-defined] # noqa: F821, UP037
    raise NotImplementedError


def lazily() -> Iterator[int]:
    raise NotImplementedError


def test_a_fitting_result_becomes_the_annotated_type() -> None:
    assert ResultType("receipt", receipt).fit({"number": "7"}) == Receipt(number=7)


def test_a_result_that_does_not_fit_names_the_activity_and_the_place() -> None:
    with pytest.raises(PayloadError, match=r"activity receipt returned .*number"):
        ResultType("receipt", receipt).fit({"number": "x"})


@pytest.mark.parametrize("function", [anything, unresolvable, lazily])
def test_without_a_usable_annotation_everything_is_allowed(function: Any) -> None:
    value = object()
    assert ResultType("it", function).fit(value) is value
