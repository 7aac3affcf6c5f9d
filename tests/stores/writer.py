"""A process that writes to a store until it is killed, and tells what is committed."""

from __future__ import annotations

import os
import sys

from sqlalchemy.engine import make_url
from twisted.internet import task
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorCore

from vsmgate.hands.database import Database
from vsmgate.model import replace
from vsmgate.stores.store import SqlStore
from vsmgate.testing.store_samples import FREE, new_job


async def write(reactor: IReactorCore, path: str) -> None:
    url = make_url("sqlite://").set(database=path)
    store = SqlStore(Database(url, reactor), lambda: 0.0)
    await store.open()
    while True:
        job, _ = await store.add(new_job(log_tail="x" * 5000), FREE, None)
        job = await store.update(job.id, lambda job: replace(job, name="committed"))
        os.write(1, f"{job.id} {job.revision}\n".encode())


if __name__ == "__main__":
    task.react(lambda reactor: Deferred.fromCoroutine(write(reactor, sys.argv[1])))
