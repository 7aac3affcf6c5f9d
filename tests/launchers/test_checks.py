"""Whether engines would take jobs: the checks of each kind."""

from __future__ import annotations

from pathlib import Path

import pytest
from zope.interface.verify import verifyObject

from tests.launchers.ecs_rig import EcsRig, launch_of, usecase_of
from tests.launchers.kubernetes_rig import KubernetesRig
from tests.launchers.local_rig import LocalRig
from tests.launchers.slurm_rig import SlurmRig
from vsmgate.errors import EngineUnreachable
from vsmgate.interfaces import IEngineCheck, IUsecaseCheck
from vsmgate.launchers.folders import folder_problem
from vsmgate.launchers.slurm_answers import Partition, parse_partitions
from vsmgate.simulators.kubernetes_objects import Selector
from vsmgate.testing.deferreds import deferred


@deferred
async def test_this_machine_would_take_jobs(local: LocalRig) -> None:
    assert verifyObject(IEngineCheck, local.launcher)
    before = sorted(local.state_dir.rglob("*"))
    assert await local.launcher.check_engine() == []
    assert sorted(local.state_dir.rglob("*")) == before


@deferred
async def test_an_address_that_is_not_here(local: LocalRig) -> None:
    (said,) = await local.again(bind="192.0.2.1").check_engine()
    assert "No service can listen at 192.0.2.1" in said


@deferred
async def test_a_state_directory_that_is_a_file(local: LocalRig) -> None:
    local.state_dir = local.state_dir / "state"
    local.state_dir.write_text("")
    (said,) = await local.again(bind="127.0.0.1").check_engine()
    assert f"The folder {local.state_dir} cannot be written" in said


def test_folders(tmp_path: Path) -> None:
    assert folder_problem(tmp_path / "not" / "yet") is None
    assert folder_problem(tmp_path, write=False) is None
    assert not list(tmp_path.iterdir())


def test_a_folder_where_nobody_may_write() -> None:
    said = folder_problem(Path("/proc/none"))  # not even root
    assert said is not None
    assert said.startswith("The folder /proc cannot be written: ")
    assert folder_problem(Path("/proc"), write=False) is None


def test_partitions() -> None:
    text = "prod|up|1/0/1/2\nlong|down|0/2/0/2\nsick|up|0/0/2/2\nhuge|up|1.5K/12/0/1.6K\n"
    assert parse_partitions(text) == [
        Partition("prod", True),
        Partition("long", False),
        Partition("sick", False),
        Partition("huge", True),
    ]


@deferred
async def test_a_cluster_would_take_jobs(slurm: SlurmRig) -> None:
    assert verifyObject(IEngineCheck, slurm.launcher)
    assert await slurm.launcher.check_engine() == []
    assert not (slurm.state_dir / "slurm").exists()


@deferred
async def test_a_slurm_behind_slurmrestd(slurm_rest: SlurmRig) -> None:
    assert await slurm_rest.launcher.check_engine() == []


@deferred
async def test_a_cluster_whose_partition_is_down(slurm: SlurmRig) -> None:
    slurm.cluster.ask("scontrol update PartitionName=prod State=DOWN")
    try:
        (said,) = await slurm.launcher.check_engine()
    finally:
        slurm.cluster.ask("scontrol update PartitionName=prod State=UP")
    assert said.startswith("No partition is up")


@deferred
async def test_a_cluster_that_is_not_there(slurm: SlurmRig, tmp_path: Path) -> None:
    conf = tmp_path / "slurm.conf"
    text = slurm.cluster.conf.read_text()
    lines = [
        "SlurmctldPort=1" if line.startswith("SlurmctldPort=") else line
        for line in text.splitlines()
    ]
    conf.write_text("\n".join([*lines, ""]))
    (said,) = await slurm.again(conf=str(conf)).check_engine()
    assert said.startswith("Slurm cannot be asked now; squeue said: ")
    assert "scontrol ping" in said


@deferred
async def test_a_namespace_that_takes_jobs(kubernetes: KubernetesRig) -> None:
    assert verifyObject(IEngineCheck, kubernetes.launcher)
    assert await kubernetes.launcher.check_engine() == []
    for resource in ("pods", "secrets"):
        assert kubernetes.cluster.objects.list(resource, "", Selector()) == []


@deferred
async def test_a_role_that_lacks_something(kubernetes: KubernetesRig) -> None:
    denied = {"update secrets", "delete secrets", "get pods/log"}
    kubernetes.cluster.api.access.denied |= denied
    assert await kubernetes.launcher.check_engine() == [
        "The gateway may not get pods/log in the namespace 'vsmgate': add it to its Role.",
        "The gateway may not update, delete secrets in the namespace 'vsmgate': "
        "add it to its Role.",
    ]
    # It is what the server itself goes by.
    with pytest.raises(EngineUnreachable, match="may not ask that"):
        await kubernetes.launcher.cancel(kubernetes.launch().tag)


@deferred
async def test_a_namespace_and_a_cluster_that_are_not_there(kubernetes: KubernetesRig) -> None:
    (said,) = await kubernetes.again(namespace="nosuch").check_engine()
    assert said.startswith("There is no namespace 'nosuch'")
    kubernetes.cluster.token = "expired"
    kubernetes.kubeconfig.write_text(kubernetes.cluster.kubeconfig(kubernetes.url))
    (said,) = await kubernetes.again().check_engine()
    assert said.startswith("Kubernetes does not accept the gateway's credentials.")
    assert "expired" not in said
    kubernetes.kubeconfig.write_text(kubernetes.cluster.kubeconfig("https://127.0.0.1:9"))
    (said,) = await kubernetes.again().check_engine()
    assert "refused" in said
    assert "Check kubeconfig" in said


@deferred
async def test_a_cluster_of_ecs(ecs: EcsRig) -> None:
    assert verifyObject(IEngineCheck, ecs.launcher)
    tasks = ecs.site.ecs.list_tasks(cluster=ecs.site.told["cluster"])["taskArns"]
    assert await ecs.again(log_group=None, log_prefix=None).check_engine() == []
    assert ecs.site.ecs.list_tasks(cluster=ecs.site.told["cluster"])["taskArns"] == tasks
    (said,) = await ecs.again(log_group="/no/such").check_engine()
    assert said == "There is no log group '/no/such': make it."
    first, *more = await ecs.again(cluster="nosuch", log_group=None, log_prefix=None).check_engine()
    assert first.startswith("There is no active cluster 'nosuch' in eu-west-1")
    assert all("ClusterNotFound" in said for said in more)
    (said,) = await ecs.again(endpoint="http://127.0.0.1:9").check_engine()
    assert "refused" in said
    assert "endpoint" in said
    empty = ecs.again(launch_type="EC2", log_group=None, log_prefix=None)
    (said,) = await empty.check_engine()
    assert "has no machines" in said


@deferred
async def test_task_definitions_that_use_cases_name(ecs: EcsRig) -> None:
    ecs.site.register("good", ["renderer", "backend"])
    ecs.site.register("old", ["renderer", "backend"])
    ecs.site.ecs.deregister_task_definition(taskDefinition="old:1")
    ecs.site.ecs.register_task_definition(
        family="bridged",
        networkMode="bridge",
        containerDefinitions=[
            {"name": name, "image": "any:1", "memory": 64} for name in ("renderer", "backend")
        ],
    )

    async def said(family: str, services: str = "renderer backend") -> list[str]:
        usecase = usecase_of(dict.fromkeys(services.split(), "stays"), family)
        plans = [(usecase, launch_of(usecase).plan)]
        checker = ecs.again(log_group=None, log_prefix=None)
        assert verifyObject(IUsecaseCheck, checker)
        return [
            told.removeprefix(f"The task definition '{family}' of the use case 'test' ")
            for told in await IUsecaseCheck(checker).check_usecases(plans)
        ]

    for family in ("good", "good:1"):
        assert await said(family) == []
    assert await said("nosuch") == ["is not there: register it."]
    assert await said("good:7") == ["is not there: register it."]
    assert await said("old:1") == [
        "is INACTIVE: register it again, or name another revision.",
    ]
    assert await said("good", "renderer web") == [
        "has no container 'web'; it has: renderer, backend.",
    ]
    assert await said("bridged") == ["has the network mode bridge: register it with awsvpc."]
