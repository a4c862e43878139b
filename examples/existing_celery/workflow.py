"""A workflow beside the application's own tasks: fifty branches, one join."""

from __future__ import annotations

from orchestrator import activity, parallel, step, workflow

WIDTH = 50


@activity
def square_number(number: int) -> int:
    """One branch."""
    return number * number


@activity
def add_up(numbers: list[int]) -> int:
    """The join."""
    return sum(numbers)


sum_of_squares = workflow(
    "sum-of-squares",
    parallel(*(step(f"square_{number}", square_number, {"number": number + 1}, fuse=False) for number in range(WIDTH))),
    step("total", add_up, {"numbers": [f"{{{{ steps.square_{number}.output }}}}" for number in range(WIDTH)]}),
)
