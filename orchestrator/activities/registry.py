"""The action registry: which function a step's activity name stands for."""

from __future__ import annotations

import inspect
import logging
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, ParamSpec, TypeAlias, TypeVar, cast, get_args, overload

from orchestrator.activities.binding import Binding
from orchestrator.activities.context import StepContext
from orchestrator.activities.result import ResultType
from orchestrator.errors import ConfigurationError, UnknownActivity
from orchestrator.model.activity import mark
from orchestrator.spelling import did_you_mean

logger = logging.getLogger("orchestrator.activities")

P = ParamSpec("P")
R = TypeVar("R")

#: How much of what others do at the same time a transaction may see. PostgreSQL takes `read uncommitted` for `read
#: committed`.
Isolation: TypeAlias = Literal["read uncommitted", "read committed", "repeatable read", "serializable"]

#: Whether, or for which inputs of a step as its definition has them, a call may be repeated long after.
Repeatable: TypeAlias = bool | Callable[[Mapping[str, Any]], bool]

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.:/-]{0,199}")


@dataclass(frozen=True, kw_only=True)
class Activity:
    """A registered function."""

    #: What steps call it by.
    name: str
    #: The function as it was decorated.
    function: Callable[..., Any]
    #: Whether it writes through the ledger's own connection, so that its effect and its record commit together.
    transactional: bool = False
    #: Whether calling it once more with the same idempotency key does no harm; may depend on the step's input.
    idempotent: Repeatable = False
    #: The isolation level of that transaction.
    isolation: Isolation = "read committed"
    #: Seconds that one attempt may take when step and definition say nothing; None is unlimited.
    timeout: float | None = None
    #: Seconds that an attempt may let pass between two heartbeats when the step says nothing; None: it need not beat.
    heartbeat_timeout: float | None = None
    #: Whether an attempt is interrupted when its execution is cancelled or its claim is lost.
    interruptible: bool = True
    #: Whether it is an `async def`.
    is_async: bool = False
    #: How its parameters are filled.
    binding: Binding = field(repr=False, compare=False)
    #: What it says that it returns.
    result: ResultType = field(repr=False, compare=False)

    def bind(self, params: Mapping[str, Any], context: StepContext) -> dict[str, Any]:
        """Keyword arguments for a call: JSON data coerced to the annotated types, and the context.

        Raises:
            InvalidInput: unknown, missing or ill-typed parameters; names each, and the fix.
        """
        return self.binding.bind(params, context)

    def check(self, params_template: Mapping[str, Any]) -> list[str]:
        """Problems of an input that are known before its expressions have values: unknown and missing parameters, and
        constants of the wrong type. One sentence each."""
        return self.binding.check(params_template)


class Registry:
    """Activities by name."""

    def __init__(self) -> None:
        self._activities: dict[str, Activity] = {}

    @property
    def names(self) -> tuple[str, ...]:
        """The names of all activities, sorted."""
        return tuple(sorted(self._activities))

    def register(
        self,
        function: Callable[..., Any],
        *,
        name: str | None = None,
        transactional: bool = False,
        idempotent: Repeatable = False,
        isolation: str | None = None,
        timeout: float | None = None,
        heartbeat_timeout: float | None = None,
        interruptible: bool = True,
    ) -> Activity:
        """Add a function, under its own name by default. The same function of a module imported again replaces itself.

        Raises:
            ConfigurationError: the name is taken or unfit, the signature cannot be filled from a step's input, or an
                option makes no sense.
        """
        chosen = _checked_name(function, name)
        for option, seconds in (("timeout", timeout), ("heartbeat_timeout", heartbeat_timeout)):
            if seconds is not None and not 0 < seconds < math.inf:
                raise ConfigurationError(f"activity {chosen}: {option}={seconds!r} is no number of seconds above 0")
        existing = self._activities.get(chosen)
        if existing is not None and _origin(existing.function) != _origin(function):
            raise ConfigurationError(
                f'two activities are named "{chosen}": {_origin(existing.function)} and {_origin(function)}; '
                'give one of them another name with @activity(name="...")'
            )
        activity = Activity(
            name=chosen,
            function=function,
            transactional=transactional,
            idempotent=idempotent,
            isolation=_checked_isolation(chosen, isolation, transactional),
            timeout=timeout,
            heartbeat_timeout=heartbeat_timeout,
            interruptible=interruptible,
            is_async=_is_async(function),
            binding=Binding(chosen, function),
            result=ResultType(chosen, function),
        )
        mark(function, chosen)
        self._activities[chosen] = activity
        return activity

    def is_repeatable(self, name: str, input: Mapping[str, Any]) -> bool:  # noqa: A002 - the field's word
        """Whether an activity is known here, and a call counts once even if the ledger has forgotten an earlier one.

        A function that cannot tell of an input, which may be full of `{{ path }}`, has not said that it does.

        Args:
            input: of the step, as its definition has it.
        """
        found = self._activities.get(name)
        if found is None or found.transactional:
            return found is not None
        if not callable(found.idempotent):
            return found.idempotent
        try:
            return found.idempotent(input)
        except Exception:
            told = "idempotent= of an activity has failed; it counts as not idempotent"
            logger.exception(told, extra={"activity": name})
            return False

    def is_transactional(self, name: str) -> bool:
        """Whether an activity is known here and transactional."""
        found = self._activities.get(name)
        return found is not None and found.transactional

    def timeout(self, name: str) -> float | None:
        """Seconds that one attempt may take when step and definition say nothing; None is unlimited."""
        found = self._activities.get(name)
        return None if found is None else found.timeout

    def heartbeat_timeout(self, name: str) -> float | None:
        """Seconds that an attempt may let pass between two heartbeats when the step says nothing; None is unlimited."""
        found = self._activities.get(name)
        return None if found is None else found.heartbeat_timeout

    def known(self, name: str) -> Activity | None:
        """The activity of that name, if it is known here."""
        return self._activities.get(name)

    def get(self, name: str) -> Activity:
        """The activity of that name.

        Raises:
            UnknownActivity: there is none; suggests close names and says what to do.
        """
        try:
            return self._activities[name]
        except KeyError:
            raise UnknownActivity(
                f'no activity is named "{name}"{did_you_mean(name, self._activities) or "."} '
                "Decorate its function with @activity and add its module to ORCHESTRATOR_MODULES"
            ) from None


#: The process's activities.
registry = Registry()


@overload
def activity(function: Callable[P, R], /) -> Callable[P, R]: ...


@overload
def activity(
    *,
    name: str | None = None,
    transactional: bool = False,
    idempotent: Repeatable = False,
    isolation: str | None = None,
    timeout: float | None = None,
    heartbeat_timeout: float | None = None,
    interruptible: bool = True,
) -> Callable[[Callable[P, R]], Callable[P, R]]: ...


def activity(
    function: Callable[P, R] | None = None,
    /,
    *,
    name: str | None = None,
    transactional: bool = False,
    idempotent: Repeatable = False,
    isolation: str | None = None,
    timeout: float | None = None,
    heartbeat_timeout: float | None = None,
    interruptible: bool = True,
) -> Callable[P, R] | Callable[[Callable[P, R]], Callable[P, R]]:
    """Register a function as an activity and return it unchanged: it can still be called like any other.

    Args:
        name: what steps call it by; the function's own name by default.
        transactional: it writes through `context.connection` only, so that its effect and its record commit together.
        idempotent: calling it once more with the same `context.idempotency_key`, however long after, does no harm; or a
            function that tells whether this is so from a step's input as its definition has it. Such steps simply run
            again when the ledger is restored from a backup that is older than their last call.
        isolation: of the transactional activity's transaction: `read committed` (the default; `read uncommitted` is
            the same to PostgreSQL), `repeatable read` or `serializable`. An attempt that the database refuses for the
            sake of another is called anew: apart from the connection, it must do nothing that counts twice.
        timeout: seconds that one attempt may take when step and definition say nothing; None is unlimited.
        heartbeat_timeout: seconds that it may let pass between two calls of `context.heartbeat` when the step says
            nothing; None: it need not call it.
        interruptible: whether it is interrupted when its execution is cancelled or has passed its deadline, or when its
            step was given to another. False lets it end by itself; its own timeout interrupts it all the same.

    Raises:
        ConfigurationError: another function has the name, the signature cannot be filled from a step's input, or an
            option makes no sense.
    """

    def decorate(decorated: Callable[P, R]) -> Callable[P, R]:
        registry.register(
            decorated,
            name=name,
            transactional=transactional,
            idempotent=idempotent,
            isolation=isolation,
            timeout=timeout,
            heartbeat_timeout=heartbeat_timeout,
            interruptible=interruptible,
        )
        return decorated

    return decorate if function is None else decorate(function)


def _checked_isolation(activity: str, isolation: str | None, transactional: bool) -> Isolation:
    if isolation is None:
        return "read committed"
    if not transactional:
        raise ConfigurationError(
            f"activity {activity}: isolation={isolation!r} is for transactional activities; add transactional=True"
        )
    asked = " ".join(isolation.replace("_", " ").lower().split())
    for level in get_args(Isolation):
        if asked == level:
            return cast("Isolation", level)
    raise ConfigurationError(
        f"activity {activity}: isolation={isolation!r} is no isolation level; give {', '.join(get_args(Isolation))}"
    )


def _checked_name(function: Any, name: str | None) -> str:
    if not callable(function):
        raise ConfigurationError(f'@activity decorates functions, not {function!r}; write @activity(name="...")')
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise ConfigurationError(f"{_origin(function)} is a generator, which has no one result; return a list instead")
    chosen: object = getattr(function, "__name__", None) if name is None else name
    if not isinstance(chosen, str) or not _NAME.fullmatch(chosen):
        raise ConfigurationError(
            f"{chosen!r} cannot be an activity's name; give @activity(name=...) up to 200 letters, digits and _.:/-, "
            "the first a letter or _"
        )
    return chosen


def _is_async(function: Callable[..., Any]) -> bool:
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(type(function).__call__)


def _origin(function: Callable[..., Any]) -> str:
    """Module and qualified name; equal for the same function of a module that is imported again."""
    module = getattr(function, "__module__", "?")
    return f"{module}.{getattr(function, '__qualname__', type(function).__qualname__)}"
