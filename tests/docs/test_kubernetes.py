"""The Kubernetes deployment file and the page about it, as far as they can be checked here."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import yaml
from msgspec import convert

from vsmgate.launchers.kubernetes import KubernetesLauncherFactory
from vsmgate.launchers.kubernetes_plan import KubernetesPlan
from vsmgate.launchers.kubernetes_settings import KubernetesSettings
from vsmgate.model import Usecase
from vsmgate.shipped import conf_folder

PAGE = Path(__file__).parents[2] / "docs" / "engines" / "kubernetes.md"
DEPLOY = conf_folder() / "deploy" / "kubernetes.yaml"


def objects() -> dict[str, Any]:
    return {one["kind"]: one for one in yaml.safe_load_all(DEPLOY.read_text())}


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE.read_text(), re.DOTALL)


def test_the_role_is_the_documented_one() -> None:
    (documented,) = map(yaml.safe_load, blocks("yaml"))
    assert objects()["Role"] == documented


def test_the_parts_fit_together() -> None:
    found = objects()
    pod = found["Deployment"]["spec"]["template"]
    assert pod["metadata"]["labels"].items() >= found["Service"]["spec"]["selector"].items()
    (container,) = pod["spec"]["containers"]
    volumes = {volume["name"] for volume in pod["spec"]["volumes"]}
    assert {mount["name"] for mount in container["volumeMounts"]} == volumes
    assert found["RoleBinding"]["subjects"][0]["name"] == pod["spec"]["serviceAccountName"]
    labels = found["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"]
    assert labels == {"app.kubernetes.io/managed-by": "vsmgate"}
    keys = {mount.get("subPath") for mount in container["volumeMounts"]} - {None}
    assert keys == set(found["ConfigMap"]["data"])


def test_the_configured_launcher_and_use_cases_are_good() -> None:
    data = objects()["ConfigMap"]["data"]
    settings = tomllib.loads(data["vsmgate.toml"])["launchers"]["kubernetes"]
    assert settings.pop("kind") == "kubernetes"
    settings.pop("targets")
    convert(settings, KubernetesSettings)
    shipped = (conf_folder() / "usecases").glob("*.toml")
    for text in (data["demo.toml"], *(path.read_text() for path in shipped)):
        usecase = convert({"name": "x", **tomllib.loads(text)}, Usecase)
        plan = convert(usecase.launch["kubernetes"], KubernetesPlan)
        assert KubernetesLauncherFactory().check(usecase, plan) == []


def test_the_documented_use_case_is_good() -> None:
    (_, text) = blocks("toml")
    given = tomllib.loads(text)
    names = {"properties": {"plugins": {"type": "array"}, "project": {}}}
    usecase = convert({"name": "x", **given, "parameters": names}, Usecase)
    plan = convert(usecase.launch["kubernetes"], KubernetesPlan)
    assert KubernetesLauncherFactory().check(usecase, plan) == []


def test_every_key_is_documented() -> None:
    text = PAGE.read_text()
    for struct in (KubernetesSettings, KubernetesPlan):
        for name in struct.__struct_fields__:
            assert f"`{name}`" in text or f"launch.kubernetes.{name}" in text, name
