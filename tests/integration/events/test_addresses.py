"""Events go where they may: every address is looked at, and the connection goes to that very one."""

import asyncio
import ssl
import threading
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from typing import Any

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from app.events import EndpointRefused
from persistence.events.addresses import Resolver, refuse
from persistence.events.sending import Letter, NotSent, Sender
from tests.integration.events.receiver import receiving

SECRET = "whsec_" + "A" * 43 + "="
NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)

PUBLIC = [
    "1.1.1.1", "93.184.215.14", "2606:4700::1111", "2002:101:101::", "64:ff9b::101:101", "::ffff:1.1.1.1",
]  # fmt: skip
PRIVATE = [
    "0.0.0.0", "127.0.0.1", "127.8.8.8", "10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1",  # noqa: S104
    "169.254.169.254", "100.64.0.1", "100.100.100.200", "168.63.129.16", "192.0.2.1", "198.18.0.1",
    "224.0.0.1", "240.0.0.1", "255.255.255.255", "::", "::1", "fe80::1", "fc00::1", "fd00:ec2::254",
    "ff02::1", "2001:db8::1", "::ffff:127.0.0.1", "::ffff:a9fe:a9fe", "64:ff9b::7f00:1", "64:ff9b:1::a00:1",
    "2002:7f00:1::", "2002:a9fe:a9fe::", "2001:0:1:2:3:4:80ff:fffe", "fec0::1", "64:ff9b:1:a00:0:100:808:808",
    "::7f00:1", "192.0.0.192", "3fff::1",
]  # fmt: skip


def letter(url: str) -> Letter:
    return Letter("e7c3a1de-0000-4000-8000-000000000000", '{"type":"x"}', url, SECRET)


def names(*answers: list[str]):
    """A resolver that answers this, one after the other, and then nothing any more."""
    left = list(answers)

    async def by(host: str, port: int) -> list[str]:
        if not left:
            raise OSError("asked too often")
        return left.pop(0)

    return by


@pytest.mark.parametrize("address", PUBLIC)
def test_the_public_internet_may_be_told(address):
    refuse(ip_address(address))


@pytest.mark.parametrize("address", PRIVATE)
def test_what_only_this_network_reaches_may_not(address):
    with pytest.raises(EndpointRefused, match="no address of the public internet"):
        refuse(ip_address(address))


@pytest.mark.parametrize("address", [*PRIVATE, "fe80::1%eth0"])
async def test_one_private_address_of_a_name_refuses_it_whatever_the_others_are(address):
    async with Sender(private=False, by=names(["1.1.1.1", address])) as sender:
        with pytest.raises(NotSent, match="public internet"):
            await sender.send(letter("https://shop.example/"), NOW)


@pytest.mark.parametrize("host", ["localhost", "127.1", "0x7f000001", "2130706433", "017700000001", "[::1]"])
async def test_no_spelling_of_this_machine_is_connected_to(host):
    async with receiving() as receiver, Sender(private=False) as sender:
        for scheme in ("http", "https"):
            with pytest.raises(NotSent, match=r"public internet|https://|resolve"):
                await sender.send(letter(f"{scheme}://{host}:{receiver.port}/"), NOW)
        assert [] == receiver.got


async def test_a_name_is_looked_up_once_so_that_what_was_looked_at_is_what_is_connected_to():
    async with receiving() as receiver, Sender(private=True, by=names(["127.0.0.1"])) as sender:
        assert 200 == await sender.send(letter(f"http://rebound.example:{receiver.port}/"), NOW)
        assert f"rebound.example:{receiver.port}" == receiver.got[0].headers["host"]


async def test_the_next_address_is_tried_when_nobody_is_at_the_first():
    async with receiving() as receiver, Sender(private=True, by=names(["::1", "127.0.0.1"])) as sender:
        assert 200 == await sender.send(letter(f"http://shop.example:{receiver.port}/"), NOW)


async def test_a_name_without_an_address_is_told_so():
    async with Sender(private=False) as sender:
        with pytest.raises(NotSent, match="does not resolve"):
            await sender.send(letter("https://nowhere.invalid/"), NOW)


async def test_the_machines_resolver_gives_each_address_once():
    assert ["127.0.0.1"] == await Resolver()("127.0.0.1", 443)


async def test_a_name_whose_servers_are_silent_keeps_no_other_waiting_and_is_asked_for_once(monkeypatch):
    answers, asked = threading.Event(), []

    def look_up(host: str, port: int, *_: Any, **__: Any) -> list[tuple[Any, ...]]:
        asked.append(host)
        if host == "silent.example":
            assert answers.wait(30)
        return [(0, 0, 0, "", ("127.0.0.1", port))]

    monkeypatch.setattr("socket.getaddrinfo", look_up)
    async with receiving() as receiver, Sender(private=True, answer_seconds=1) as sender:
        silent = letter(f"http://silent.example:{receiver.port}/")
        waiting = [asyncio.create_task(sender.send(silent, NOW)) for _ in range(40)]
        await asyncio.sleep(0)
        assert 200 == await sender.send(letter(f"http://shop.example:{receiver.port}/"), NOW)
        for each in waiting:
            with pytest.raises(NotSent, match="no answer within 1 s"):
                await each
        assert ["silent.example", "shop.example"] == asked
        answers.set()
        await asyncio.wait(sender._by._asked.values(), timeout=10)
        assert 200 == await sender.send(silent, NOW)


async def test_proxies_of_the_environment_are_not_used(monkeypatch):
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    async with receiving() as receiver, Sender(private=True) as sender:
        assert 200 == await sender.send(letter(receiver.url), NOW)


def certificate(name: str, folder) -> tuple[str, str]:
    """A certificate that vouches for itself, and its key: their files."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    (folder / "cert.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    return str(folder / "cert.pem"), str(folder / "key.pem")


async def test_the_certificate_must_be_the_names_and_not_the_addresss(tmp_path, monkeypatch):
    cert, key = certificate("shop.example", tmp_path)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(cert, key)
    asked_for = []
    context.sni_callback = lambda _, name, __: asked_for.append(name)
    always = {"shop.example": ["127.0.0.1"], "other.example": ["127.0.0.1"]}

    async def by(host: str, port: int) -> list[str]:
        return always[host]

    async with receiving(tls=context) as receiver:
        url = f"https://shop.example:{receiver.port}/"
        async with Sender(private=True, by=by) as sender:
            with pytest.raises(NotSent, match="its certificate is not good"):
                await sender.send(letter(url), NOW)
        monkeypatch.setenv("SSL_CERT_FILE", cert)
        async with Sender(private=True, by=by) as sender:
            assert 200 == await sender.send(letter(url), NOW)
            with pytest.raises(NotSent, match="its certificate is not good"):
                await sender.send(letter(url.replace("shop", "other")), NOW)
    assert {"shop.example", "other.example"} == set(asked_for)
    assert 1 == len(receiver.got)


def test_httpx_puts_an_address_into_a_url_as_it_must_be():
    assert "https://[2606:4700::1]:8443/x?y=1" == str(
        httpx.URL("https://shop.example:8443/x?y=1").copy_with(host="2606:4700::1")
    )
