"""Everybody is one user, loudly."""

from __future__ import annotations

from pathlib import Path

import pytest
import pytest_twisted
from twisted.internet.testing import MemoryReactorClock
from twisted.logger import LogEvent
from zope.interface.verify import verifyObject

from vsmgate.auth.anonymous import AnonymousAuthenticatorFactory, AnonymousSettings
from vsmgate.errors import ConfigError
from vsmgate.interfaces import Context, IAuthenticator, IAuthenticatorFactory
from vsmgate.model import Identity, Secret
from vsmgate.settings import read


@pytest_twisted.ensureDeferred
async def test_everybody_is_the_sandbox(tmp_path: Path, logged: list[LogEvent]) -> None:
    factory = AnonymousAuthenticatorFactory()
    verifyObject(IAuthenticatorFactory, factory)
    context = Context("open", MemoryReactorClock(), lambda: 0.0, tmp_path, tmp_path)
    settings = read(AnonymousSettings, {"subject": "sandbox", "groups": ["guests"]}, source="x")
    anonymous = factory.make(settings, context)
    verifyObject(IAuthenticator, anonymous)
    for token in ("", "anything"):
        identity = await anonymous.authenticate(Secret(token))
        assert identity == Identity("sandbox", ("guests",), None, "open")
    (warning,) = logged
    assert warning["log_level"].name == "warn"
    assert (warning["name"], warning["subject"]) == ("open", "sandbox")


def test_it_must_be_told_whom_everybody_is() -> None:
    with pytest.raises(ConfigError, match=r"authenticators\.open\.subject"):
        read(AnonymousSettings, {}, source="x", where="authenticators.open")
