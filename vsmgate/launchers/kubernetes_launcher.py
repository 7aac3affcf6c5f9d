"""Runs jobs on Kubernetes: one pod for each, through the plain REST API.

A pod's name is our tag, so the API server itself refuses a second one. All pods are asked for
by one list; a watch tells when to ask. A pod that is deleted, by us or somebody else, is gone
from Kubernetes: how it ended follows from what was seen of it last.

The ref is the pod's name.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger
from zope.interface import implementer

from vsmgate.errors import BadParameters, EngineError, EngineRefused
from vsmgate.hands.http_client import HttpFailed
from vsmgate.interfaces import Context, IEngineCheck, ILauncher
from vsmgate.launchers.kubernetes_answers import Pod
from vsmgate.launchers.kubernetes_check import check_kubernetes
from vsmgate.launchers.kubernetes_client import KubernetesClient
from vsmgate.launchers.kubernetes_credentials import Access
from vsmgate.launchers.kubernetes_pod import JOB_LABEL, MANAGED, render_pod, render_secret
from vsmgate.launchers.kubernetes_reasons import ENDED_BY_US, observation, places_of, vanished
from vsmgate.launchers.kubernetes_settings import KubernetesSettings
from vsmgate.model import JOB_ID, Launch, LogStream, Observation, Phase, tag_of

__all__ = ["KubernetesLauncher"]

#: Seconds between a change and the next poll, in which more changes are waited for.
_GATHER = 0.1
#: Seconds from the beginning of a watch to the next one's, at least.
_PAUSE = 10.0
_REF = re.compile(rf"{tag_of('')}({JOB_ID.pattern})", re.ASCII)


@implementer(ILauncher, IEngineCheck)
class KubernetesLauncher:
    """Jobs in one namespace of one cluster."""

    _log = Logger()

    def __init__(self, settings: KubernetesSettings, context: Context, access: Access) -> None:
        self._settings = settings
        self._nudge = context.nudge
        self._reactor: Any = context.reactor
        self._clock = IReactorTime(context.reactor)
        namespace = settings.namespace or access.namespace or "default"
        self._api = KubernetesClient(
            context.reactor, access, namespace, "=".join(MANAGED), settings.timeout
        )
        #: What was seen last of pods that are asked for, and how those ended that have.
        self._last: dict[str, Pod] = {}
        self._ended: dict[str, Observation] = {}
        self._watching: Deferred[None] | None = None
        self._gathering: Any = None
        self._closed = False

    # -- ILauncher ---------------------------------------------------------------------

    async def submit(self, launch: Launch) -> str:
        settings = self._settings
        try:
            pod = render_pod(
                launch, bind=settings.bind, python=settings.python, grace=settings.grace
            )
        except BadParameters as error:
            raise EngineRefused(error.detail, code=error.code) from None
        # First, so that a pod that is there has all that it needs, whenever we are killed.
        if launch.secret is not None:
            await self._api.put_secret(render_secret(launch, launch.secret))
        try:
            made = await self._api.create_pod(pod) or await self._api.pod(launch.tag)
        except EngineRefused:
            if launch.secret is not None:
                await self._drop_secret(launch.tag)
            raise
        if made is None or (made.metadata.labels or {}).get(JOB_LABEL) != launch.job_id:
            raise EngineRefused(f"There is a pod {launch.tag} that is not ours.", code="name_taken")
        self._last[launch.tag] = made
        return launch.tag

    async def find(self, tags: Collection[str]) -> Mapping[str, str]:
        if not tags:
            return {}
        pods, _ = await self._api.pods()
        return {tag: tag for tag in tags if _is_ours(tag, pods.get(tag))}

    async def poll(self, refs: Collection[str]) -> Mapping[str, Observation]:
        asked = {ref for ref in refs if _REF.fullmatch(ref)}
        if not asked:
            return {ref: Observation(Phase.UNKNOWN) for ref in refs}
        pods, version = await self._api.pods()
        self._watch(version)
        seen = {}
        for ref in refs:
            pod = pods.get(ref)
            if ref in asked and pod is not None and _is_ours(ref, pod):
                seen[ref] = await self._look(ref, pod)
            elif ref in self._last:
                seen[ref] = await self._miss(ref)
            else:
                seen[ref] = Observation(Phase.UNKNOWN)
        return seen

    async def cancel(self, ref: str) -> None:
        if _REF.fullmatch(ref) and ref not in self._ended:
            await self._remove(ref)

    async def logs(self, ref: str, service: str, stream: LogStream, tail: int) -> bytes:
        # Kubernetes keeps both streams of a container as one.
        if not _REF.fullmatch(ref) or tail <= 0 or stream is not LogStream.STDOUT:
            return b""
        pod = self._last.get(ref) or await self._api.pod(ref)
        place = places_of(pod).get(service) if pod is not None else None
        if place is None:
            return b""
        # There is no tail of so many octets: take lines enough, of which few are shorter.
        text = await self._api.logs(ref, place[0], max(10, tail // 16))
        return text[-tail:]

    async def forget(self, ref: str) -> None:
        if not _REF.fullmatch(ref):
            return
        pod = await self._api.pod(ref)
        if pod is not None and _is_ours(ref, pod) and observation(pod).phase is not Phase.ENDED:
            return
        await self._remove(ref)
        self._last.pop(ref, None)
        self._ended.pop(ref, None)

    async def close(self) -> None:
        self._closed = True
        if self._watching is not None:
            self._watching.cancel()
        if self._gathering is not None and self._gathering.active():
            self._gathering.cancel()
        await self._api.close()

    # -- IEngineCheck ------------------------------------------------------------------

    async def check_engine(self) -> Sequence[str]:
        return await check_kubernetes(self._api)

    # -- parts -------------------------------------------------------------------------

    async def _drop_secret(self, name: str) -> None:
        """Delete the secret of a refused pod, if that can be done now; the refusal counts more."""
        try:
            await self._api.delete("secrets", name)
        except EngineError as error:
            self._log.warn("secret {name} stays: {why}", name=name, why=error.detail)

    async def _remove(self, ref: str) -> None:
        await self._api.delete("pods", ref)
        await self._api.delete("secrets", ref)

    async def _look(self, ref: str, pod: Pod) -> Observation:
        """Return what is seen of a pod; the first end that was seen stays."""
        self._last[ref] = pod
        if ref in self._ended:
            return self._ended[ref]
        seen = observation(pod)
        if seen.phase is Phase.ENDED:
            if pod.status.phase not in ("Succeeded", "Failed"):
                await self._finish(ref)
            self._ended[ref] = seen
        return seen

    async def _miss(self, ref: str) -> Observation:
        """Return what is seen of a pod that is not in the list; only a second answer ends a job."""
        if ref not in self._ended:
            pod = await self._api.pod(ref)
            if _is_ours(ref, pod):
                assert pod is not None
                return await self._look(ref, pod)
            self._ended[ref] = vanished(self._last[ref])
        return self._ended[ref]

    async def _finish(self, ref: str) -> None:
        """End what is left of a job that has lost a service; its outputs stay, if they can.

        What fails here must not keep other jobs from being seen; a deadline ends the pod anyway.
        """
        try:
            await self._api.shorten(ref, ENDED_BY_US)
        except EngineError as error:
            self._log.warn("pod {ref} is deleted: {why}", ref=ref, why=error.detail)
            try:
                await self._api.delete("pods", ref)
            except EngineError as failed:
                self._log.error("pod {ref} goes on: {why}", ref=ref, why=failed.detail)

    # -- the watch ---------------------------------------------------------------------

    def _watch(self, version: str) -> None:
        """Watch from a list's version on, unless that is done already."""
        if self._watching is None and not self._closed:
            self._watching = Deferred.fromCoroutine(self._watched(version))

    async def _watched(self, version: str) -> None:
        began = self._clock.seconds()
        try:
            try:
                await self._api.watch(version, self._changed)
                self._changed()  # the next poll lists, and watches from there
            except (HttpFailed, EngineError) as error:
                self._log.debug("no watch: {why}", why=str(error))
            # Something on the way may cut every watch off at once, so not again and again.
            await deferLater(self._reactor, max(0.0, began + _PAUSE - self._clock.seconds()))
        except CancelledError:
            return
        self._watching = None

    def _changed(self) -> None:
        if self._gathering is None or not self._gathering.active():
            self._gathering = self._clock.callLater(_GATHER, self._nudge)


def _is_ours(ref: str, pod: Pod | None) -> bool:
    """Whether a pod is the job's that its name says."""
    found = _REF.fullmatch(ref)
    labels = (pod.metadata.labels or {}) if pod is not None else {}
    return found is not None and labels.get(JOB_LABEL) == found[1]
