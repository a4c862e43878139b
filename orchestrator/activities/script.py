"""The ready-made activity `script`: code of a definition's author, in a sandbox."""

from __future__ import annotations

import json
import math
import signal
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from orchestrator.activities.context import StepContext
from orchestrator.activities.isolation import sandbox
from orchestrator.activities.isolation.limits import Limits
from orchestrator.activities.isolation.sandbox import Ending, Program
from orchestrator.activities.registry import activity
from orchestrator.errors import ActivityError, InvalidInput

#: Seconds that a script may take when neither it nor its step says more.
TIMEOUT = 10.0

_RUNNER = Path(sandbox.__file__).with_name("runner.py")
#: Of what a script prints, so many bytes are kept for the log, and so many characters of it for an error.
_LOG_LIMIT, _TAIL = 65_536, 2_000
#: The bytes around a result in the runner's answer: {"output": }.
_FRAME = 12
_REMEDY = (
    "give the worker Linux 5.14 or newer, on which it may make user namespaces (sysctl user.max_user_namespaces, "
    "kernel.unprivileged_userns_clone, kernel.apparmor_restrict_unprivileged_userns; for a container a seccomp profile "
    "that allows unshare, mount and pivot_root), or let scripts that you trust do without: "
    "ORCHESTRATOR_SCRIPT_ALLOW_UNISOLATED=1, and allow_unisolated: true in the step's input"
)


class ScriptFailed(ActivityError):
    """The script ended with an error."""


class ScriptTimedOut(ActivityError):
    """The script took too long."""

    category = "timeout"


class IsolationUnavailable(ActivityError):
    """This machine's kernel cannot isolate scripts."""


@activity(timeout=TIMEOUT)
def script(  # noqa: PLR0917 - all are given by name
    ctx: StepContext,
    code: str | None = None,
    command: Annotated[list[str], Field(min_length=1)] | None = None,
    input: Any = None,  # noqa: A002 - what authors call it
    timeout: Annotated[float, Field(gt=0, le=86_400)] | None = None,
    cpu: Annotated[int, Field(ge=1, le=86_400)] | None = None,
    memory_mb: Annotated[int, Field(ge=16, le=65_536)] = 256,
    processes: Annotated[int, Field(ge=1, le=1_024)] = 16,
    max_output: Annotated[int, Field(ge=1, le=67_108_864)] = 1_048_576,
    allow_unisolated: bool = False,
) -> Any:
    """Execute a script and return its result; it has no network, a read-only root and an empty work folder.

    Args:
        code: Python that defines `main(input)`; what that returns is the result. It has the standard library.
        command: instead of code, a program and its arguments, without a shell. It gets the input as JSON on standard
            input and writes its result as JSON to standard output; writing nothing means null.
        input: any JSON.
        timeout: seconds in all; by default what the step may take, which is 10 unless it says otherwise.
        cpu: seconds of processor time of each process; by default the timeout.
        memory_mb: address space of each process, in megabytes.
        processes: processes and threads at the same time.
        max_output: most bytes of the result's JSON.
        allow_unisolated: execute it even where the kernel cannot isolate it, limited in time, memory and files only.
            Counts only where the operator has set ORCHESTRATOR_SCRIPT_ALLOW_UNISOLATED.

    Raises:
        ScriptFailed: an exception (with the script's own traceback), an exit code, a limit passed, or no JSON.
        ScriptTimedOut: it took longer than `timeout`.
        IsolationUnavailable: the kernel cannot isolate it; names the missing step and the remedy.
    """
    if (code is None) == (command is None):
        raise InvalidInput("a script needs either code or command; give one of them")
    seconds = timeout or ctx.timeout or TIMEOUT
    limits = Limits(cpu=cpu or math.ceil(seconds), memory_mb=memory_mb, processes=processes)
    program = _command(command, input, max_output) if command is not None else _code(code, input, max_output)
    program = replace(program, limits=limits, timeout=seconds, folders=ctx.scripts.folders)
    ending = _execute(program, ctx, allow_unisolated)
    _require_end(ending, program)
    return _result(ending) if command is not None else _answer(ending, max_output)


def _command(command: list[str], value: Any, max_output: int) -> Program:
    return Program(
        argv=command,
        stdin=json.dumps(value).encode(),
        keep={"stdout": max_output, "stderr": _LOG_LIMIT, "answer": 0},
        bounded="stdout",
    )


def _code(code: str | None, value: Any, max_output: int) -> Program:
    return Program(
        argv=(sandbox.INTERPRETER, "-I", "-S", "-c", _RUNNER.read_text()),
        stdin=json.dumps({"code": code, "input": value}).encode(),
        # Besides the result, the answer holds its name, or an error.
        keep={"stdout": _LOG_LIMIT, "stderr": _LOG_LIMIT, "answer": max_output + _LOG_LIMIT},
        bounded="answer",
    )


def _execute(program: Program, ctx: StepContext, allow_unisolated: bool) -> Ending:
    ending = sandbox.execute(program)
    if ending.refused is not None and allow_unisolated and ctx.scripts.allow_unisolated:
        ctx.log.warning("script executed without isolation", extra={"missing": ending.refused, "why": ending.reason})
        ending = sandbox.execute(program, isolated=False)
    printed = {name: ending.text(name) for name in ("stdout", "stderr") if name != program.bounded}
    if any(printed.values()):
        ctx.log.info("script printed", extra={name: text for name, text in printed.items() if text})
    return ending


def _require_end(ending: Ending, program: Program) -> None:
    """Raise for a program that did not end by itself."""
    if ending.refused is not None:
        raise IsolationUnavailable(f"this machine cannot isolate scripts: {ending.refused}: {ending.reason}; {_REMEDY}")
    if ending.unstarted is not None:
        raise ScriptFailed(
            f"{program.argv[0]} cannot be executed: {ending.unstarted}; scripts see the system's programs and "
            "ORCHESTRATOR_SCRIPT_FOLDERS only"
        )
    if ending.timed_out:
        raise ScriptTimedOut(f"the script took more than {program.timeout:g} s{_tail(ending)}")
    if ending.signal == signal.SIGXCPU:
        raise ScriptTimedOut(f"the script used more than {program.limits.cpu} s of processor time{_tail(ending)}")
    if ending.overflowed:
        raise ScriptFailed("the script's result is larger than max_output allows")
    if ending.exit is None:
        by = f"by {signal.Signals(ending.signal).name}" if ending.signal else "from outside"
        raise ScriptFailed(f"the script was killed {by}; perhaps it needs more memory_mb{_tail(ending)}")


def _result(ending: Ending) -> Any:
    """What a command has written."""
    if ending.exit:
        raise ScriptFailed(f"the command ended with exit code {ending.exit}{_tail(ending)}")
    try:
        return json.loads(ending.streams["stdout"], parse_constant=_refuse) if ending.text("stdout").strip() else None
    except (ValueError, RecursionError) as error:
        raise ScriptFailed(f"the command's standard output is not JSON: {error}{_tail(ending)}") from None


def _answer(ending: Ending, max_output: int) -> Any:
    """What the code's `main` has returned. The script may have written anything to the descriptor: it is not trusted
    to be what the runner writes."""
    try:
        answer = json.loads(ending.streams["answer"], parse_constant=_refuse)
    except (ValueError, RecursionError):
        answer = None
    match answer:
        case {"output": output}:
            if len(ending.streams["answer"]) - _FRAME > max_output:
                raise ScriptFailed("the script's result is larger than max_output allows")
            return output
        case {"error": {"type": str(kind), "message": str(message), "traceback": str(trace)}}:
            raise ScriptFailed(f"{kind}: {message[: _TAIL // 4]}\n{trace[-_TAIL // 2 :]}".strip())
    raise ScriptFailed(f"the script ended with exit code {ending.exit} and no result{_tail(ending)}")


def _tail(ending: Ending) -> str:
    """The end of what it complained about, for an error's message."""
    text = ending.text("stderr").strip()
    return f": {text[-_TAIL // 2 :]}" if text else ""


def _refuse(name: str) -> object:
    raise ValueError(f"{name} is no JSON number")
