from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure
from zope.interface.verify import verifyObject

from vsmgate.errors import ConfigError
from vsmgate.interfaces import Context, IJobStore, IJobStoreFactory, ISettingsChecker
from vsmgate.stores.sql import SqlSettings, SqlStoreFactory
from vsmgate.testing.stores import FREE, new_job


@pytest.fixture
def context(tmp_path: Path) -> Context:
    from twisted.internet import reactor

    # Characters that mean something in a URL, in SQL or to configparser.
    folders = [tmp_path / name for name in ("state %20 ?x=1#'", "conf")]
    for folder in folders:
        folder.mkdir()
    return Context("store", reactor, lambda: 0.0, *folders)


async def files_of(store: IJobStore, context: Context) -> set[str]:
    """Use the store; return the database files that are there then."""
    await store.open()
    await store.add(new_job(), FREE, None)
    await store.close()
    root = context.state_dir.parent
    return {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}


def test_the_factory_provides_its_interface() -> None:
    assert verifyObject(IJobStoreFactory, SqlStoreFactory())
    assert verifyObject(ISettingsChecker, SqlStoreFactory())


@pytest_twisted.ensureDeferred
async def test_the_default_is_a_file_in_the_state_directory(context: Context) -> None:
    store = SqlStoreFactory().make(SqlSettings(), context)
    assert list(context.state_dir.iterdir()) == []  # `vsmgate check` makes nothing
    assert await files_of(store, context) == {f"{context.state_dir.name}/vsmgate.sqlite3"}


@pytest_twisted.ensureDeferred
async def test_a_relative_path_starts_at_the_configuration(context: Context) -> None:
    store = SqlStoreFactory().make(SqlSettings(url="sqlite:///jobs.db"), context)
    assert await files_of(store, context) == {"conf/jobs.db"}


@pytest_twisted.ensureDeferred
async def test_the_url_may_be_in_a_file(context: Context) -> None:
    (context.config_dir / "url").write_text("sqlite:///{state_dir}/a.db\n")
    store = SqlStoreFactory().make(SqlSettings(url_file="url"), context)
    assert await files_of(store, context) == {"conf/url", f"{context.state_dir.name}/a.db"}


@pytest_twisted.ensureDeferred
async def test_the_url_may_be_in_the_environment(
    context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VSMGATE_TEST_URL", "sqlite:///b.db")
    store = SqlStoreFactory().make(SqlSettings(url_env="VSMGATE_TEST_URL"), context)
    assert await files_of(store, context) == {"conf/b.db"}


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        (SqlSettings(url="postgresql://me:hunter2@db/jobs"), "store.url: .*url_file.*url_env"),
        (SqlSettings(url="sqlite://me:hunter2@/x"), "store.url: .*url_file.*url_env"),
        (SqlSettings(url="postgresql://db/jobs"), "'postgresql' is not supported yet"),
        (SqlSettings(url="sqlite://"), "must name a file"),
        (SqlSettings(url="sqlite:///:memory:"), "must name a file"),
        (SqlSettings(url="sqlite:///file:x?uri=true"), "must name a file"),
        (SqlSettings(url="hunter2"), "is not a database URL"),
        (SqlSettings(url=""), "is not a database URL"),
        (SqlSettings(url="sqlite:///a", url_env="B"), "store.url_env: cannot stand beside url"),
        (SqlSettings(url_file="missing"), "store.url_file: .*no such file"),
        (SqlSettings(url_env="VSMGATE_TEST_UNSET"), "VSMGATE_TEST_UNSET is not set"),
    ],
)
def test_unusable_settings_are_refused(context: Context, settings: SqlSettings, told: str) -> None:
    with pytest.raises(ConfigError, match=told) as refused:
        SqlStoreFactory().make(settings, context)
    assert "hunter2" not in str(refused.value)
    with pytest.raises(ConfigError, match=told):
        SqlStoreFactory().inspect(settings, context)


@pytest_twisted.ensureDeferred
async def test_the_factory_is_cheap_to_import() -> None:
    from twisted.internet import reactor

    ended: Deferred[bytes] = Deferred()

    class Reader(ProcessProtocol):
        octets = b""

        def outReceived(self, data: bytes) -> None:
            self.octets += data

        def processEnded(self, _reason: Failure) -> None:
            ended.callback(self.octets)

    asked = (
        "import sys, vsmgate.stores.sql as m; print({'sqlalchemy', 'alembic'} & set(sys.modules))"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    reactor.spawnProcess(Reader(), sys.executable, [sys.executable, "-c", asked], environment)
    assert await ended.addTimeout(60, reactor) == b"set()\n"
