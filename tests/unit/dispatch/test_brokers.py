"""What a broker's URL makes of a Celery application. That it works so is shown in tests/brokers, on real ones."""

from __future__ import annotations

import ssl
from typing import Any

import pytest
from celery import Celery

from orchestrator import Orchestrator
from orchestrator.errors import ConfigurationError


def app(**settings: Any) -> Celery:
    return Orchestrator(modules=(), **settings).app


def test_redis_notices_a_half_open_socket_soon_and_amqp_by_heartbeats() -> None:
    redis, rabbitmq = app(broker_url="redis://127.0.0.1:1/0"), app(broker_url="amqp://127.0.0.1:1//")
    assert redis.conf.broker_transport_options["socket_timeout"] == 5
    assert redis.conf.broker_transport_options["health_check_interval"] == 3
    assert rabbitmq.conf.broker_transport_options == {"read_timeout": 10}
    assert (redis.conf.broker_heartbeat, rabbitmq.conf.broker_heartbeat) == (120, 5)


def test_what_an_application_says_of_its_heartbeats_stays() -> None:
    theirs = Celery("theirs", broker="amqp://127.0.0.1:1//", set_as_current=False)
    theirs.conf.broker_heartbeat = 30
    Orchestrator(theirs)
    assert theirs.conf.broker_heartbeat == 30


def test_transport_options_of_the_settings_come_before_ours() -> None:
    options = {"master_name": "orchestrator", "socket_timeout": 7}
    found = app(broker_url="sentinel://127.0.0.1:1/0", broker_options=options).conf.broker_transport_options
    assert options.items() <= found.items()
    assert found["unacked_restore_throttle"] == 1


def test_sentinels_need_the_name_of_the_master() -> None:
    with pytest.raises(ConfigurationError, match="set ORCHESTRATOR_BROKER_OPTIONS="):
        app(broker_url="sentinel://127.0.0.1:1/0;sentinel://127.0.0.1:2/0")


@pytest.mark.parametrize(("scheme", "prefix"), [("rediss", "ssl_"), ("amqps", "")])
def test_certificates_are_verified_against_the_authorities_given(scheme: str, prefix: str) -> None:
    found = app(broker_url=f"{scheme}://127.0.0.1:1/0", broker_ca="/etc/ours.pem").connection_for_write().ssl
    assert found[f"{prefix}cert_reqs"] == ssl.CERT_REQUIRED
    assert found[f"{prefix}ca_certs"] == "/etc/ours.pem"


def test_what_the_url_says_of_tls_comes_before_the_settings() -> None:
    url = "rediss://127.0.0.1:1/0?ssl_cert_reqs=required&ssl_ca_certs=/etc/theirs.pem"
    assert (
        app(broker_url=url, broker_ca="/etc/ours.pem").connection_for_write().ssl["ssl_ca_certs"] == "/etc/theirs.pem"
    )


def test_options_are_json_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORCHESTRATOR_BROKER_OPTIONS", '{"master_name": "orchestrator"}')
    assert app(broker_url="sentinel://127.0.0.1:1/0").conf.broker_transport_options["master_name"] == "orchestrator"
