"""RabbitMQ: the Erlang machine itself, without the wrappers that Debian starts it by, and an epmd of its own."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import ClassVar

from kombu import Connection

from orchestrator.embedded import Account, NotStarted, Server
from orchestrator.embedded.port import free_port
from orchestrator.embedded.spawn import adopt, spawn
from servers.certificates import Authority
from servers.debian import alone, program

_NAME = "orchestrator"
_CONFIGURATION = """\
listeners.tcp.1 = 127.0.0.1:{port}
default_user = {name}
default_pass = {password}
loopback_users = none
log.file = false
log.console = true
log.console.level = warning
disk_free_limit.absolute = 20MB
"""
_TLS = """\
listeners.ssl.1 = 127.0.0.1:{port}
ssl_options.cacertfile = {folder}/authority.pem
ssl_options.certfile = {folder}/server.pem
ssl_options.keyfile = {folder}/server.key
ssl_options.verify = verify_none
"""
#: Every message is also reported to the exchange amq.rabbitmq.trace, which costs nothing while no queue is bound to it.
_ADVANCED = '[{{rabbit, [{{trace_vhosts, [<<"/">>]}}{variables}]}}].\n'


class RabbitMQ(Server):
    """A RabbitMQ node without plugins that keeps its queues and persistent messages over restarts and kills.

    Its main process is the Erlang machine, `beam.smp`: that is what `pid` is and what `kill` ends. See Server for life
    cycle and arguments.

    Args:
        authority: signs a certificate with which a second port takes TLS only.
        variables: of the application `rabbit`, in milliseconds or whatever the unit is: `{"consumer_timeout": 3000}`.
    """

    program: ClassVar[str] = "rabbitmq"
    stop_signal: ClassVar[signal.Signals] = signal.SIGTERM
    start_deadline: ClassVar[float] = 90.0

    def __init__(
        self,
        directory: Path,
        *,
        port: int | None = None,
        account: Account | None = None,
        authority: Authority | None = None,
        variables: Mapping[str, int] | None = None,
    ) -> None:
        super().__init__(directory, port=port, account=account)
        self._authority, self._tls_port = authority, free_port() if authority else None
        self._variables = dict(variables or {})
        self._epmd: subprocess.Popen[bytes] | None = None
        self._epmd_port = self._distribution_port = 0
        # Not the password: it is on command lines.
        self._cookie = secrets.token_hex(16)

    @property
    def url(self) -> str:
        """AMQP URL of the virtual host `/`. Raises NotStarted before the first start."""
        return f"amqp://{_NAME}:{self.password}@127.0.0.1:{self.port}//"

    @property
    def tls_url(self) -> str:
        """The same by TLS; says nothing of the authority. Raises NotStarted, also where there is none."""
        if self._tls_port is None:
            raise NotStarted
        return f"amqps://{_NAME}:{self.password}@127.0.0.1:{self._tls_port}//"

    def evaluate(self, expression: str) -> str:
        """What an Erlang expression gives inside the node, as Erlang writes it. Raises NotStarted, RuntimeError."""
        if not self.running:
            raise NotStarted
        asked = subprocess.run(
            [str(program("erl_call", "erlang-base")), "-n", self._node, "-c", self._cookie, "-e"],
            input=f"{expression}.\n".encode(),
            env={"ERL_EPMD_PORT": str(self._epmd_port)},
            capture_output=True,
            check=True,
        )
        outcome, _, value = asked.stdout.decode().strip().removeprefix("{").removesuffix("}").partition(", ")
        if outcome != "ok":
            raise RuntimeError(f"{expression}: {asked.stdout.decode()}")
        return value

    def unacknowledged(self) -> int:
        """How many messages are with consumers."""
        each = 'rabbit_amqqueue:info_all(<<"/">>, [messages_unacknowledged])'
        return int(self.evaluate(f"lists:sum([N || [{{messages_unacknowledged, N}}] <- {each}])"))

    def stop(self) -> None:
        """Stop the node in order, then its epmd."""
        super().stop()
        self._end_epmd()

    @property
    def _node(self) -> str:
        return f"{_NAME}{self.port}@localhost"

    def _binary(self) -> Path:
        return program("rabbitmq-server", "rabbitmq-server")

    def _command(self) -> Sequence[str]:
        home = self.directory
        environment = {
            "HOME": str(home),
            "LANG": "C.UTF-8",
            # Debian's script then becomes the Erlang machine instead of waiting for it in a shell.
            "detached": "1",
            "ERL_EPMD_PORT": str(self._epmd_port),
            "RABBITMQ_CONF_ENV_FILE": "/dev/null",
            "RABBITMQ_CONFIG_FILE": str(home / "rabbitmq.conf"),
            "RABBITMQ_ADVANCED_CONFIG_FILE": str(home / "advanced.config"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(home / "enabled_plugins"),
            "RABBITMQ_MNESIA_BASE": str(home / "mnesia"),
            "RABBITMQ_LOG_BASE": str(home / "log"),
            "RABBITMQ_NODENAME": self._node,
            "RABBITMQ_DIST_PORT": str(self._distribution_port),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}",
        }
        return alone(environment, [str(self._binary())])

    def _prepare(self, account: Account, lock: int) -> None:
        for folder in ("mnesia", "log"):
            (self.directory / folder).mkdir(exist_ok=True)
        variables = "".join(f", {{{name}, {value}}}" for name, value in self._variables.items())
        configuration = _CONFIGURATION.format(port=self.port, name=_NAME, password=self.password)
        if self._authority is not None:
            shutil.copy(self._authority.certificate, self.directory / "authority.pem")
            for made, name in zip(self._authority.issue("rabbitmq"), ("server.pem", "server.key"), strict=True):
                shutil.copy(made, self.directory / name)
            configuration += _TLS.format(port=self._tls_port, folder=self.directory)
        self._write("rabbitmq.conf", configuration)
        self._write("advanced.config", _ADVANCED.format(variables=variables))
        self._write("enabled_plugins", "[].\n")
        # Erlang refuses one that others might read.
        self._write(".erlang.cookie", self._cookie, mode=0o400)
        adopt(self.directory, account)
        self._start_epmd(account, lock)

    def _write(self, name: str, text: str, mode: int = 0o600) -> None:
        path = self.directory / name
        path.unlink(missing_ok=True)
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w") as file:
            file.write(text)

    def _start_epmd(self, account: Account, lock: int) -> None:
        """The node would start one as a daemon that outlives everybody; it takes this one if it is there before."""
        self._end_epmd()
        self._epmd_port, self._distribution_port = (self._epmd_port or free_port()), free_port()
        argv = [str(program("epmd", "erlang-base")), "-port", str(self._epmd_port), "-address", "127.0.0.1"]
        self._epmd = spawn(argv, log=self.log, account=account, cwd=self.directory, keep_open=[lock])

    def _end_epmd(self) -> None:
        if self._epmd is not None:
            self._epmd.kill()
            self._epmd.wait()
        self._epmd = None

    def _crash(self) -> None:
        super()._crash()
        self._end_epmd()

    def _answers(self) -> bool:
        with suppress(Exception), Connection(self.url, connect_timeout=2) as connection:
            connection.connect()
            return True
        return False
