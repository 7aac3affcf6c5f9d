"""A listener's certificate: checked at the start, and read again when its files change."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from OpenSSL import SSL

from tests.certificates import Authority
from vsmgate.config import TlsConfig
from vsmgate.errors import ConfigError
from vsmgate.hands.certificates import Certificates


def config(files: tuple[Path, Path], version: str = "1.2") -> TlsConfig:
    return TlsConfig(str(files[0]), str(files[1]), version)  # type: ignore[arg-type]  # a literal


def shaken(server: Certificates, *protocols: bytes, most: int | None = None) -> SSL.Connection:
    """Return a client's connection after the handshake, which happens in memory."""
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    if most is not None:
        context.set_max_proto_version(most)
    client, answering = SSL.Connection(context, None), server.serverConnectionForTLS(None)
    if protocols:
        client.set_alpn_protos(list(protocols))
    client.set_connect_state()
    answering.set_accept_state()
    waits = True
    while waits:
        waits = False
        for one, other in ((client, answering), (answering, client)):
            try:
                one.do_handshake()
            except SSL.WantReadError:
                waits = True
            try:
                other.bio_write(one.bio_read(65536))
            except SSL.WantReadError:
                pass
    return client


def subject(connection: SSL.Connection) -> str:
    found = connection.get_peer_certificate(as_cryptography=True)
    assert found is not None
    return found.subject.rfc4514_string().removeprefix("CN=")


@pytest.mark.criterion("S-22")
def test_http_1_1_is_chosen_and_nothing_below_tls_1_2(tmp_path: Path) -> None:
    files = Authority(tmp_path).issue("a.example.org")
    server = Certificates(config(files), "relay.tls")
    for offered in ([b"h2", b"http/1.1"], [b"http/1.1"]):
        assert shaken(server, *offered).get_alpn_proto_negotiated() == b"http/1.1"
    assert shaken(server).get_alpn_proto_negotiated() == b""
    assert shaken(server, most=SSL.TLS1_2_VERSION).get_protocol_version_name() == "TLSv1.2"
    with pytest.raises(SSL.Error):
        shaken(server, most=SSL.TLS1_1_VERSION)
    newest = Certificates(config(files, "1.3"), "relay.tls")
    with pytest.raises(SSL.Error):
        shaken(newest, most=SSL.TLS1_2_VERSION)


def test_changed_files_are_for_new_connections(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    files = authority.issue("old.example.org")
    server = Certificates(config(files), "relay.tls")
    open_one = shaken(server)
    authority.issue("new.example.org")
    assert subject(shaken(server)) == "old.example.org"
    server.refresh()
    assert subject(shaken(server)) == "new.example.org"
    assert subject(open_one) == "old.example.org"


def test_a_broken_change_leaves_the_old_one(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    files = authority.issue("old.example.org")
    server = Certificates(config(files), "relay.tls")
    certificate, key = authority.issue("new.example.org", file="new")
    os.replace(certificate, files[0])  # the key has not come yet
    server.refresh()
    assert subject(shaken(server)) == "old.example.org"
    files[0].unlink()
    server.refresh()
    assert subject(shaken(server)) == "old.example.org"
    certificate, key = authority.issue("new.example.org", file="new")
    os.replace(certificate, files[0])
    os.replace(key, files[1])
    server.refresh()
    assert subject(shaken(server)) == "new.example.org"


def test_files_that_cannot_be_used(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    certificate, key = authority.issue("a.example.org")
    _, other_key = authority.issue("b.example.org", file="other")
    empty, none = tmp_path / "empty", tmp_path / "none"
    empty.touch()
    for files, pointer, words in (
        ((none, key), "relay.tls.certificate_file", "cannot be read: no such file"),
        ((empty, key), "relay.tls.certificate_file", "has no certificate in PEM"),
        ((certificate, none), "relay.tls.key_file", "cannot be read: no such file"),
        ((certificate, empty), "relay.tls.key_file", "has no unencrypted key of it"),
        ((certificate, other_key), "relay.tls.key_file", "has no unencrypted key of it"),
    ):
        with pytest.raises(ConfigError) as caught:
            Certificates(config(files), "relay.tls", "x.toml")
        (problem,) = caught.value.problems
        assert (caught.value.source, problem.pointer) == ("x.toml", pointer)
        assert words in problem.detail
