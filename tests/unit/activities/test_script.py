"""Scripts in real sandboxes: real processes, real namespaces, real limits."""

from __future__ import annotations

import json
import logging
import os
import signal
import socket
import subprocess
import sys
import uuid
from dataclasses import replace
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import pytest
from test_step_context import CONTEXT

from orchestrator.activities.registry import registry
from orchestrator.activities.script import IsolationUnavailable, ScriptFailed, ScriptTimedOut, script
from orchestrator.errors import AttemptTimedOut, InvalidInput
from orchestrator.runtime.alarm import time_limit

WORKER = Path(__file__).with_name("script_worker.py")


def python(body: str, **options: Any) -> Any:
    """The result of `main(input)` with this body."""
    lines = "\n".join(f"    {line}" for line in body.strip().splitlines())
    return script(CONTEXT, code=f"import os, socket, sys\n\ndef main(input):\n{lines}\n", **options)


def worker_orders(**orders: Any) -> list[str]:
    return [sys.executable, str(WORKER), json.dumps(orders)]


def in_worker(env: dict[str, str] | None = None, **orders: Any) -> dict[str, Any]:
    """What a process of its own, with this environment, makes of a script."""
    answer = subprocess.run(
        worker_orders(**orders), env={**os.environ, **(env or {})}, capture_output=True, check=True, timeout=60
    )
    found: dict[str, Any] = json.loads(answer.stdout)
    return found


def processes(mark: str) -> list[int]:
    """Processes of the machine with this text in their command line, the test's own worker aside."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                line = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if mark.encode() in line and WORKER.name.encode() not in line:
                found.append(int(entry.name))
    return found


def wait_for(mark: str, *, present: bool) -> None:
    deadline = monotonic() + 10
    while bool(found := processes(mark)) is not present:
        assert monotonic() < deadline, f"{mark}: {found}"
        sleep(0.02)


@pytest.fixture
def mark() -> str:
    """Text by which a test finds its own processes."""
    return f"mark-{uuid.uuid4()}"


def test_a_script_may_take_ten_seconds_when_nothing_is_said() -> None:
    assert registry.timeout("script") == 10.0


@pytest.mark.parametrize("value", [None, True, 7, 1.5, "ümläut \U0001f600", [1, {"a": None}], {"deep": [[{"b": 2}]]}])
def test_json_goes_in_and_comes_out(value: Any) -> None:
    assert python("return {'got': input}", input=value) == {"got": value}
    assert script(CONTEXT, command=["cat"], input=value) == value


def test_large_input_and_output_do_not_wait_for_each_other() -> None:
    value = ["x" * 1_000] * 900
    assert python("return input", input=value) == value
    assert script(CONTEXT, command=["cat"], input=value) == value


def test_what_a_script_prints_goes_to_the_log_and_not_into_its_result(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "orchestrator.activity"):
        result = python(
            """
            print('{"output": "printed"}')
            os.write(1, b"raw")
            os.system("echo from a child; echo complaint >&2")
            return "returned"
        """.replace("\n            ", "\n")
        )
    assert result == "returned"
    [record] = [record for record in caplog.records if record.message == "script printed"]
    assert {'{"output": "printed"}', "raw", "from a child"} <= set(
        record.__dict__["stdout"].replace("raw", "raw\n").split("\n")
    )
    assert record.__dict__["stderr"] == "complaint\n"


def test_endless_printing_fills_no_memory_and_costs_no_result() -> None:
    assert python("for _ in range(3_000): print('x' * 1_000)\nreturn 1") == 1


def test_an_exception_is_told_with_the_scripts_own_traceback() -> None:
    with pytest.raises(ScriptFailed) as caught:
        script(
            CONTEXT, code="def main(input):\n    return divide(input)\n\ndef divide(by):\n    return 1 / by\n", input=0
        )
    message = str(caught.value)
    assert message.startswith("ZeroDivisionError: division by zero\n")
    assert 'File "script.py", line 5, in divide\n    return 1 / by' in message
    assert "runner" not in message
    assert "<string>" not in message


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("def main(input) return 1", "SyntaxError"),
        ("result = 1", "no function main"),
        ("def main(input): return object()", "TypeError: Object of type object is not JSON serializable"),
        ("def main(input): return float('nan')", "not JSON compliant"),
        ("import sys\ndef main(input): sys.exit(3)", "SystemExit: 3"),
        ("import os\ndef main(input): os._exit(3)", "exit code 3 and no result"),
        ("import os\ndef main(input): os.write(3, b'forged'); os._exit(0)", "no result"),
        ("import os\ndef main(input): os.kill(os.getpid(), 9)", "killed by SIGKILL"),
    ],
)
def test_code_without_a_result_says_what_is_wrong(code: str, message: str) -> None:
    with pytest.raises(ScriptFailed, match=message):
        script(CONTEXT, code=code)


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (["sh", "-c", "echo all is lost >&2; exit 3"], "exit code 3: all is lost"),
        (["sh", "-c", "echo no json"], "not JSON"),
        (["sh", "-c", "echo NaN"], "NaN is no JSON number"),
        (["no-such-program"], "no-such-program cannot be executed: No such file or directory"),
        (["/etc/passwd"], "cannot be executed: Permission denied"),
    ],
)
def test_a_command_without_a_result_says_what_is_wrong(command: list[str], message: str) -> None:
    with pytest.raises(ScriptFailed, match=message):
        script(CONTEXT, command=command)


def test_a_command_is_any_interpreter_and_gets_no_shell() -> None:
    assert script(CONTEXT, command=["sh", "-c", 'read -r line; echo "[$line, $1]"', "sh", "2"], input=1) == [1, 2]
    assert script(CONTEXT, command=["awk", "{ print $1 * 2 }"], input=21) == 42
    assert script(CONTEXT, command=["echo", '"$HOME; echo 2"']) == "$HOME; echo 2"
    assert script(CONTEXT, command=["true"]) is None


@pytest.mark.parametrize("given", [{}, {"code": "def main(input): pass", "command": ["true"]}])
def test_a_script_is_either_code_or_a_command(given: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput, match="either code or command"):
        script(CONTEXT, **given)


def test_a_result_may_not_be_larger_than_allowed() -> None:
    assert python("return 'x' * 98", max_output=100) == "x" * 98
    with pytest.raises(ScriptFailed, match="larger than max_output"):
        python("return 'x' * 99", max_output=100)
    with pytest.raises(ScriptFailed, match="larger than max_output"):
        python("return 'x' * 3_000_000")
    with pytest.raises(ScriptFailed, match="larger than max_output"):
        script(CONTEXT, command=["sh", "-c", "yes"], max_output=1_000)


def test_an_endless_loop_ends_at_the_timeout(mark: str) -> None:
    started = monotonic()
    with pytest.raises(ScriptTimedOut, match=r"took more than 0\.5 s") as caught:
        script(CONTEXT, command=["sh", "-c", "setsid sleep 300 & while :; do :; done", mark], timeout=0.5)
    assert monotonic() - started < 5
    assert caught.value.category == "timeout"
    wait_for(mark, present=False)


def test_a_step_that_may_take_longer_gives_its_script_the_time() -> None:
    with pytest.raises(ScriptTimedOut, match=r"took more than 0.3 s"):
        script(replace(CONTEXT, timeout=0.3), command=["sleep", "60"])


def test_processor_time_is_limited() -> None:
    with pytest.raises(ScriptTimedOut, match="1 s of processor time"):
        python("while True: pass", cpu=1, timeout=30)


def test_memory_is_limited() -> None:
    assert python("return len(bytearray(50_000_000))") == 50_000_000
    with pytest.raises(ScriptFailed, match="MemoryError"):
        python("return len(bytearray(300_000_000))")
    assert python("return len(bytearray(300_000_000))", memory_mb=512) == 300_000_000


def test_files_in_the_work_folder_are_limited_and_no_other_memory_is_to_be_had() -> None:
    with pytest.raises(ScriptFailed, match=r"No space left|File too large"):
        python("""
for number in range(10):
    with open(f"part{number}", "wb") as file:
        file.write(bytes(20_000_000))
""")
    with pytest.raises(ScriptFailed, match="PermissionError"):
        python("os.memfd_create('more')")


def test_processes_are_limited() -> None:
    count = """
for number in range(100):
    try:
        if os.fork() == 0:
            import time
            time.sleep(60)
    except BlockingIOError:
        return number
"""
    assert python(count, processes=5) == 4  # and the script itself
    assert python(count) == 15


def test_a_fork_bomb_ends_and_leaves_the_machine_clean(mark: str) -> None:
    bomb = "b() { b | b & b; }; b 2>/dev/null; sleep 60"
    with pytest.raises((ScriptTimedOut, ScriptFailed)):
        script(CONTEXT, command=["sh", "-c", bomb, mark], timeout=2)
    wait_for(mark, present=False)


def test_what_a_script_leaves_running_goes_with_it(mark: str) -> None:
    assert script(CONTEXT, command=["sh", "-c", f"(setsid sh -c 'sleep 300 # {mark}' &) ; echo 1", mark]) == 1
    wait_for(mark, present=False)


KNOCK = """
try:
    with socket.socket(getattr(socket, input["family"]), socket.SOCK_STREAM) as peer:
        peer.settimeout(3)
        address = input["address"]
        peer.connect(tuple(address) if isinstance(address, list) else address)
        return "connected"
except OSError as error:
    return type(error).__name__
"""


def test_there_is_no_network(tmp_path: Path, mark: str) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as tcp,
        socket.socket(socket.AF_UNIX) as file,
        socket.socket(socket.AF_UNIX) as abstract,
    ):
        file.bind(str(tmp_path / "socket"))
        abstract.bind(f"\0{mark}")
        for listener in (tcp, file, abstract):
            listener.listen()
        doors = [
            {"family": "AF_INET", "address": list(tcp.getsockname())},
            {"family": "AF_UNIX", "address": str(tmp_path / "socket")},
            {"family": "AF_UNIX", "address": f"\0{mark}"},
        ]
        outside: dict[str, Any] = {}
        exec(f"import socket\ndef main(input):\n{KNOCK}".replace("\n", "\n    ").replace("    def", "def"), outside)
        for door in doors:
            assert outside["main"](door) == "connected"
            assert python(KNOCK, input=door) != "connected"
    with pytest.raises(ScriptFailed, match=r"gaierror|Temporary failure"):
        python("socket.getaddrinfo('example.com', 80)")
    with pytest.raises(ScriptFailed, match="not supported"):
        python("socket.socket(socket.AF_VSOCK)")
    with pytest.raises(ScriptFailed, match="not supported"):
        python("socket.socket(socket.AF_NETLINK)")


def test_the_root_is_read_only(tmp_path: Path) -> None:
    places = ["/etc", "/usr", "/usr/bin", "/", "/dev", "/proc", str(Path.home()), str(tmp_path), str(Path(sys.prefix))]
    found = python(
        """
def attempt(place):
    try:
        with open(os.path.join(place, "planted"), "w") as file:
            file.write("x")
        return "written"
    except OSError as error:
        return error.strerror
return {place: attempt(place) for place in input}
""",
        input=places,
    )
    assert "written" not in found.values()
    assert found["/usr"] == "Read-only file system"
    assert not [place for place in places if (Path(place) / "planted").exists()]


def test_a_script_sees_programs_but_none_of_the_machines_own_files(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("password: hunter2")
    hidden = [str(tmp_path / "config.yaml"), str(Path(__file__)), "/etc/shadow", "/sys", "/var", "/run", "/dev/vda"]
    assert python("return [os.path.exists(place) for place in input]", input=hidden) == [False] * len(hidden)
    assert python("return os.path.exists('/bin/sh')")


def test_folders_that_the_operator_names_are_shown_read_only(tmp_path: Path) -> None:
    tool = tmp_path / "tools" / "hello"
    tool.parent.mkdir()
    tool.write_text("#!/bin/sh\ntouch $(dirname $0)/planted 2>/dev/null || echo '\"hello\"'\n")
    tool.chmod(0o755)
    policy = replace(CONTEXT.scripts, folders=("/no/such/folder", str(tool.parent), "/usr/bin"))
    assert script(replace(CONTEXT, scripts=policy), command=[str(tool)]) == "hello"
    assert list(tool.parent.iterdir()) == [tool]
    with pytest.raises(ScriptFailed, match="No such file"):
        script(CONTEXT, command=[str(tool)])


def test_the_work_folder_is_empty_writable_and_gone_afterwards() -> None:
    state = """
before = os.listdir(".")
with open("note", "w") as file:
    file.write("x")
return {"cwd": os.getcwd(), "home": os.environ["HOME"], "before": before, "after": os.listdir(".")}
"""
    for _ in range(2):
        found = python(state)
        assert found["before"] == []
        assert found["after"] == ["note"]
        assert found["home"] == found["cwd"]
        assert not Path(found["cwd"]).exists()


def test_the_environment_is_empty_and_secrets_of_the_worker_cannot_be_read(mark: str) -> None:
    spy = """
def main(input):
    import os, pathlib
    found = [str(dict(os.environ))]
    for path in pathlib.Path("/proc").glob("[0-9s]*/*"):
        try:
            found.append(path.read_bytes().decode(errors="replace"))
        except OSError:
            pass
    return {"text": "".join(found), "environment": sorted(os.environ), "environs": len(found)}
"""
    found = in_worker({"PLANTED_SECRET": mark}, call={"code": spy})["result"]
    assert mark not in found["text"]
    assert set(found["environment"]) <= {"PATH", "LANG", "HOME", "LC_CTYPE"}


def test_a_script_can_neither_see_nor_kill_the_processes_of_its_parent() -> None:
    found = python(
        """
seen = [int(name) for name in os.listdir("/proc") if name.isdigit()]
try:
    os.kill(input, 9)
    reached = True
except ProcessLookupError:
    reached = False
try:
    os.kill(-1, 9)
except ProcessLookupError:
    pass
return {"seen": seen, "reached": reached, "me": os.getpid()}
""",
        input=os.getpid(),
    )
    assert set(found["seen"]) <= {1, found["me"]}
    assert not found["reached"]


def test_a_script_has_no_privileges_and_cannot_get_any() -> None:
    status = python("return dict(line.split(':', 1) for line in open('/proc/self/status'))")
    assert {status[name].strip() for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {"0" * 16}
    assert status["NoNewPrivs"].strip() == "1"
    assert status["Uid"].split() == ["65534"] * 4
    for attempt in ("os.setuid(0)", "os.chroot('/tmp')"):
        with pytest.raises(ScriptFailed, match="PermissionError"):
            python(attempt)
    with pytest.raises(ScriptFailed, match="exit code"):
        script(CONTEXT, command=["unshare", "--user", "true"])


def test_no_descriptor_of_the_worker_is_open() -> None:
    with open(__file__) as held:
        os.set_inheritable(held.fileno(), True)
        assert set(python("return os.listdir('/proc/self/fd')")) <= {"0", "1", "2", "3", "4"}


def test_an_interrupted_attempt_takes_its_script_along(mark: str) -> None:
    with pytest.raises(AttemptTimedOut), time_limit(0.5):
        script(CONTEXT, command=["sh", "-c", "sleep 300; true", mark], timeout=60)
    wait_for(mark, present=False)


@pytest.mark.parametrize(
    ("orders", "command"),
    [({}, "setsid sleep 300 & wait"), ({"refuse": ["unshare"], "allow": True}, "read -r never < /dev/zero")],
    ids=["isolated", "unisolated"],
)
def test_a_killed_worker_takes_its_script_along(mark: str, orders: dict[str, Any], command: str) -> None:
    call = {"command": ["sh", "-c", command, mark], "timeout": 60, "allow_unisolated": True}
    worker = subprocess.Popen(worker_orders(call=call, **orders), stdout=subprocess.DEVNULL)
    try:
        wait_for(mark, present=True)
    finally:
        worker.send_signal(signal.SIGKILL)
        worker.wait()
    wait_for(mark, present=False)


@pytest.mark.parametrize(
    ("refused", "step"),
    [
        ("unshare", "namespaces"),
        ("mount", "a root of its own"),
        ("pivot_root", "a root of its own"),
        ("mount_setattr", "a root of its own"),
        ("umount2", "a root of its own"),
    ],
)
def test_a_kernel_that_cannot_isolate_is_refused_with_the_missing_step(refused: str, step: str) -> None:
    found = in_worker(refuse=[refused], call={"command": ["touch", "/tmp/executed"]})
    assert found["error"] == IsolationUnavailable.__name__
    assert f"cannot isolate scripts: {step}" in found["message"]
    assert "Operation not permitted" in found["message"]
    assert "ORCHESTRATOR_SCRIPT_ALLOW_UNISOLATED" in found["message"]


@pytest.mark.parametrize(("asked", "allowed"), [(True, False), (False, True)])
def test_a_script_goes_without_isolation_only_if_author_and_operator_both_say_so(asked: bool, allowed: bool) -> None:
    call = {"command": ["echo", "1"], "allow_unisolated": asked}
    assert in_worker(refuse=["unshare"], allow=allowed, call=call)["error"] == IsolationUnavailable.__name__


def test_an_unisolated_script_still_has_limits_a_clean_environment_and_a_work_folder(mark: str) -> None:
    look = """
def main(input):
    import os, resource
    open("note", "w").close()
    return {
        "work": os.getcwd(), "found": os.listdir("."), "environment": sorted(os.environ),
        "memory": resource.getrlimit(resource.RLIMIT_AS)[0],
    }
"""
    env = {"PLANTED_SECRET": mark}
    found = in_worker(env, refuse=["unshare"], allow=True, call={"code": look, "allow_unisolated": True})["result"]
    assert found["found"] == ["note"]
    assert not Path(found["work"]).exists()
    assert set(found["environment"]) <= {"PATH", "LANG", "HOME", "LC_CTYPE"}
    assert found["memory"] == 256 << 20


def test_what_could_be_isolated_is_even_if_the_script_may_go_without() -> None:
    found = in_worker(
        allow=True, call={"code": "def main(input):\n    import os\n    return os.getpid()", "allow_unisolated": True}
    )
    assert found["result"] < 10
