"""Which hosts and ports the rules allow, and how `HUB_FETCH_ALLOW` and `HUB_FETCH_PORTS` are read."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from hub.fetching.errors import FetchRefused
from hub.fetching.rules import Exemption, FetchRules, parse_ports
from hub.settings import BadSettings, read_settings

PUBLIC = "93.184.216.34"
ALLOWED = "crm.example, sap.example:8443, 10.1.0.0/16, 10.2.0.5, 10.2.0.6:9000, fd00::/8, [fd00::7]:9000, [::1]"
RULES = FetchRules(tuple(Exemption.parse(text.strip()) for text in ALLOWED.split(",")))


@pytest.mark.parametrize(
    ("host", "port", "addresses"),
    [
        ("example.com", 80, [PUBLIC]),
        ("example.com", 443, [PUBLIC, "2606:4700:4700::1111", "::ffff:8.8.8.8"]),
        ("crm.example", 443, ["10.0.0.1", "127.0.0.1"]),
        ("crm.example", 80, [PUBLIC]),
        ("sap.example", 8443, ["192.168.0.1"]),
        ("sap.example", 8443, [PUBLIC]),
        ("sap.example", 443, [PUBLIC]),
        ("any.example", 443, ["10.1.2.3", "10.2.0.5"]),
        ("any.example", 80, ["10.1.2.3", PUBLIC]),
        ("10.1.2.3", 80, ["::ffff:10.1.2.3"]),
        ("any.example", 9000, ["10.2.0.6"]),
        ("any.example", 443, ["fd00::1", "::1"]),
        ("any.example", 9000, ["fd00::7"]),
    ],
)
def test_what_is_allowed(host: str, port: int, addresses: list[str]) -> None:
    assert len(RULES.check(host, port, [ip_address(text) for text in addresses])) == len(addresses)


@pytest.mark.parametrize(
    ("host", "port", "addresses", "reason"),
    [
        ("example.com", 443, ["10.0.0.1"], "not a public host"),
        ("example.com", 443, [PUBLIC, "10.0.0.1"], "not a public host"),
        ("example.com", 443, ["127.0.0.1", PUBLIC], "not a public host"),
        ("example.com", 443, ["10.1.0.1", "10.3.0.1"], "not a public host"),
        ("example.com", 8080, [PUBLIC], "port 8080"),
        ("example.com", 22, [PUBLIC], "port 22"),
        ("www.crm.example", 443, ["10.0.0.1"], "not a public host"),
        ("crm.example", 8443, ["10.0.0.1"], "port 8443"),
        ("sap.example", 443, ["192.168.0.1"], "not a public host"),
        ("sap.example", 8444, ["192.168.0.1"], "port 8444"),
        ("any.example", 9000, ["10.1.2.3"], "port 9000"),
        ("any.example", 443, ["10.2.0.6"], "not a public host"),
        ("any.example", 9000, ["10.2.0.6", PUBLIC], "port 9000"),
    ],
)
def test_what_is_refused(host: str, port: int, addresses: list[str], reason: str) -> None:
    with pytest.raises(FetchRefused, match=reason):
        RULES.check(host, port, [ip_address(text) for text in addresses])


def test_other_ports_may_be_listed() -> None:
    rules = FetchRules(ports=parse_ports("443, 8443"))
    assert rules.check("example.com", 8443, [ip_address(PUBLIC)])
    with pytest.raises(FetchRefused, match="port 80"):
        rules.check("example.com", 80, [ip_address(PUBLIC)])


@pytest.mark.parametrize(
    "text",
    [
        *("crm.example/", "https://crm.example", "*.example", "crm.example:0", "crm.example:99999", "crm example", ""),
        *("10.0.0.1/8", "10.1", "%", "127.0.0.1:", "::1/abc", "[::1", "[crm.example]", "[10.0.0.5]:80x"),
    ],
)
def test_an_entry_that_is_none_stops_the_start(text: str) -> None:
    with pytest.raises(ValueError, match=r"write crm|network is|port"):
        Exemption.parse(text)


def test_settings_name_what_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HUB_FETCH_ALLOW", "crm.example, http://sap.example")
    with pytest.raises(BadSettings, match=r"HUB_FETCH_ALLOW: 'http://sap.example' is neither a host"):
        read_settings()
    monkeypatch.setenv("HUB_FETCH_ALLOW", "crm.example,[fd00::7]:9000")
    monkeypatch.setenv("HUB_FETCH_PORTS", "80,https")
    with pytest.raises(BadSettings, match="HUB_FETCH_PORTS: 'https' is not a port"):
        read_settings()
    monkeypatch.setenv("HUB_FETCH_PORTS", "443")
    assert read_settings().fetch_allow == ("crm.example", "[fd00::7]:9000")
