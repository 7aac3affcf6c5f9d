"""An API server that is away, slow, or something else; and credentials of every kind."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from msgspec.structs import replace
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.ssl import (
    Certificate,
    CertificateOptions,
    PrivateCertificate,
    trustRootFromCertificates,
)
from twisted.logger import LogEvent
from twisted.web.server import Site

from tests.certificates import Authority
from tests.launchers.answering import Answering
from tests.launchers.kubernetes_rig import KubernetesRig, launch_of, usecase_of
from vsmgate.errors import ConfigError, EngineRefused, EngineUnreachable
from vsmgate.interfaces import Context, ISettingsChecker
from vsmgate.launchers.kubernetes import KubernetesLauncherFactory
from vsmgate.launchers.kubernetes_credentials import from_kubeconfig, in_cluster
from vsmgate.launchers.kubernetes_plan import KubernetesPlan
from vsmgate.launchers.kubernetes_settings import KubernetesSettings
from vsmgate.model import Phase, Secret, Service, Usecase
from vsmgate.simulators.kubernetes_objects import Selector
from vsmgate.testing.deferreds import deferred

#: Twisted 26.10 hands pyOpenSSL's own objects to it.
pytestmark = pytest.mark.filterwarnings("ignore:Passing pyOpenSSL:DeprecationWarning")

TOKEN = "the-gateways-own-token"


def config_of(server: str, user: dict[str, Any], **cluster: Any) -> str:
    return json.dumps(
        {
            "current-context": "here",
            "clusters": [{"name": "c", "cluster": {"server": server, **cluster}}],
            "users": [{"name": "u", "user": user}, {"name": "nobody", "user": None}],
            "contexts": [
                {"name": "here", "context": {"cluster": "c", "user": "u", "namespace": "ns"}},
                {"name": "there", "context": {"cluster": "c", "user": "nobody"}},
            ],
        }
    )


@pytest.fixture
def answering(tmp_path: Path) -> Iterator[tuple[Answering, Any]]:
    from twisted.internet import reactor as found

    reactor: Any = found
    server = Answering()
    port = reactor.listenTCP(0, Site(server), interface="127.0.0.1")
    config = tmp_path / "kubeconfig"
    config.write_text(config_of(f"http://127.0.0.1:{port.getHost().port}", {"token": TOKEN}))
    context = Context("kubernetes", reactor, time.time, tmp_path, tmp_path)
    settings = KubernetesSettings(kubeconfig="kubeconfig", timeout=0.5)
    launcher = KubernetesLauncherFactory().make(settings, context)
    try:
        yield server, launcher
    finally:
        pytest_twisted.blockon(Deferred.fromCoroutine(launcher.close()))
        pytest_twisted.blockon(maybeDeferred(port.stopListening))


def status(code: int, reason: str, message: str) -> bytes:
    body = {"kind": "Status", "status": "Failure", "reason": reason, "message": message}
    return json.dumps(body | {"code": code}).encode()


@deferred
async def test_refused_credentials_are_told_without_them(
    answering: tuple[Answering, Any], logged: list[LogEvent]
) -> None:
    server, launcher = answering
    for code, reason, expected in (
        (401, "Unauthorized", "bad_credentials"),
        (403, "Forbidden", "not_permitted"),
    ):
        server.status = code
        server.body = status(code, reason, 'pods is forbidden: User "robot" cannot create')
        launch = launch_of(usecase_of({"renderer": "stays"}), secret=Secret("s"))
        with pytest.raises(EngineRefused) as caught:
            await launcher.submit(launch)
        assert caught.value.code == expected
        assert "robot" not in caught.value.detail + caught.value.native
    assert any("robot" in str(event.get("message", "")) for event in logged)
    assert TOKEN not in str(logged)


@deferred
async def test_the_server_goes_away_and_comes_back(kubernetes: KubernetesRig) -> None:
    ref = await kubernetes.launcher.submit(kubernetes.launch())
    before = await kubernetes.until(ref, Phase.RUNNING)
    port = kubernetes.cluster._port.getHost().port
    await kubernetes.launcher.close()
    await kubernetes.cluster._port.stopListening()
    later = kubernetes.again(timeout=5.0)
    with pytest.raises(EngineUnreachable, match="refused"):
        await later.poll([ref])
    with pytest.raises(EngineUnreachable):
        await later.submit(kubernetes.launch())
    # Another certificate than the one that is trusted.
    kubernetes.cluster.listen(port)
    with pytest.raises(EngineUnreachable, match="certificate"):
        await later.poll([ref])
    kubernetes.kubeconfig.write_text(kubernetes.cluster.kubeconfig(kubernetes.url))
    assert (await kubernetes.again().poll([ref]))[ref] == before


@deferred
async def test_a_token_in_a_file_is_read_again(kubernetes: KubernetesRig, tmp_path: Path) -> None:
    config = json.loads(kubernetes.cluster.kubeconfig(kubernetes.url))
    config["users"][0]["user"] = {"tokenFile": "token"}
    (tmp_path / "by-file").write_text(json.dumps(config))
    (tmp_path / "token").write_text("expired")
    launcher = kubernetes.again(kubeconfig="by-file")
    tag = kubernetes.launch().tag
    with pytest.raises(EngineUnreachable, match="credentials"):
        await launcher.find([tag])
    (tmp_path / "token").write_text("simulated\n")
    assert await launcher.find([tag]) == {}
    (tmp_path / "token").unlink()
    with pytest.raises(EngineUnreachable, match="token"):
        await launcher.find([tag])


@deferred
async def test_a_clients_certificate(kubernetes: KubernetesRig, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    certificate, key = authority.issue("kubernetes.default", file="server")
    own, own_key = authority.issue("gateway", file="client")
    pem = certificate.read_bytes() + key.read_bytes()
    pair = PrivateCertificate.loadPEM(pem)
    trust = trustRootFromCertificates([Certificate.loadPEM(authority.ca.read_bytes())])
    options = CertificateOptions(
        privateKey=pair.privateKey.original, certificate=pair.original, trustRoot=trust
    )
    server = Answering()
    server.body = b'{"metadata": {}, "items": []}'
    port = kubernetes.reactor.listenSSL(0, Site(server), options, interface="127.0.0.1")
    config = config_of(
        f"https://127.0.0.1:{port.getHost().port}",
        {
            "client-certificate": own.name,
            "client-key-data": base64.b64encode(own_key.read_bytes()).decode(),
        },
        **{"certificate-authority": authority.ca.name, "tls-server-name": "kubernetes.default"},
    )
    (tmp_path / "by-certificate").write_text(config)
    tag = kubernetes.launch().tag
    try:
        launcher = kubernetes.again(kubeconfig="by-certificate")
        assert await launcher.find([tag]) == {}
        assert server.asked[0].getHeader("Authorization") is None
        nobody = kubernetes.again(kubeconfig="by-certificate", context="there", timeout=5.0)
        with pytest.raises(EngineUnreachable):
            await nobody.find([tag])
        assert len(server.asked) == 1
    finally:
        for made in kubernetes.made:
            await made.close()
        await port.stopListening()


@deferred
async def test_what_is_misspelt_is_refused(kubernetes: KubernetesRig) -> None:
    """The API itself leaves it out: a volume without a source is an empty one."""
    for part, given in (
        ("volumes", {"data": {"persistentVolumeClam": {"claimName": "data"}}}),
        ("tolerations", [{"key": "gpu", "operator": "Exists", "efect": "NoSchedule"}]),
    ):
        with pytest.raises(EngineRefused, match="Clam" if part == "volumes" else "efect") as caught:
            await kubernetes.launcher.submit(kubernetes.launch(**{part: given}))
        assert caught.value.code == "bad_resource"
    assert kubernetes.names("pods") == []


@deferred
async def test_words_of_a_failing_server_are_for_the_log(answering: tuple[Answering, Any]) -> None:
    server, launcher = answering
    words = 'Get "https://10.0.3.7:10250/containerLogs/x": dial tcp 10.0.3.7:10250: i/o timeout'
    launch = launch_of(usecase_of({"renderer": "stays"}))
    server.status = 500
    server.body = status(500, "", words)
    for asked in (launcher.find([launch.tag]), launcher.submit(launch)):
        with pytest.raises(EngineUnreachable, match="it failed") as caught:
            await asked
        assert "10.0.3.7" not in caught.value.detail


@deferred
async def test_a_refused_pod_leaves_no_secret(kubernetes: KubernetesRig) -> None:
    launch = launch_of(usecase_of({"renderer": "stays"}), secret=Secret("s3cret"))
    launch = replace(launch, plan=replace(launch.plan, labels={"bad key!": "x"}))
    with pytest.raises(EngineRefused, match="bad key!") as caught:
        await kubernetes.launcher.submit(launch)
    assert caught.value.code == "bad_resource"
    assert kubernetes.cluster.objects.list("secrets", "", Selector()) == []
    elsewhere = kubernetes.again(namespace="nosuch")
    with pytest.raises(EngineRefused) as caught:
        await elsewhere.submit(kubernetes.launch())
    assert caught.value.code == "bad_namespace"
    usecase = usecase_of({"renderer": "stays"})
    usecase.launch["kubernetes"]["services"]["renderer"]["command"].append("{parameters.x}")
    with pytest.raises(EngineRefused) as caught:
        await kubernetes.launcher.submit(launch_of(usecase, {"x": "a\nb"}))
    assert caught.value.code == "bad_parameters"


@pytest.mark.parametrize(
    ("user", "cluster", "words"),
    [
        ({"exec": {"command": "aws"}}, {}, "from a command"),
        ({"auth-provider": {"name": "gcp"}}, {}, "from a command or a provider"),
        ({"username": "a", "password": TOKEN}, {}, "a password"),
        ({}, {"insecure-skip-tls-verify": True}, "always verified"),
        ({}, {"proxy-url": "socks5://x"}, "proxy-url"),
        ({}, {"server": "http://10.0.0.1:8080"}, "without TLS"),
        ({}, {"server": "10.0.0.1"}, "no https:// URL"),
        ({}, {"server": ""}, "no cluster with a server"),
        ({}, {"certificate-authority": "none.pem"}, "No such file"),
        ({}, {"certificate-authority-data": "!"}, "not base64"),
        ({}, {"certificate-authority-data": "YWJj"}, "no certificate"),
        ({"client-certificate-data": "YWJj"}, {}, "no certificate with its unencrypted key"),
        ({"token": [TOKEN]}, {}, "is no kubeconfig"),
    ],
)
def test_a_kubeconfig_that_cannot_be_used(
    tmp_path: Path, user: dict[str, Any], cluster: dict[str, Any], words: str
) -> None:
    file = tmp_path / "config"
    server = cluster.pop("server", "https://10.0.0.1:6443")
    file.write_text(config_of(server, user, **cluster))
    with pytest.raises(ConfigError) as caught:
        from_kubeconfig(file, "", "launchers.k")
    assert words in str(caught.value)
    assert "launchers.k.kubeconfig" in str(caught.value)
    assert TOKEN not in str(caught.value)


def test_settings_are_inspected(tmp_path: Path) -> None:
    from twisted.internet import reactor as found

    reactor: Any = found
    factory = KubernetesLauncherFactory()
    context = Context("k", reactor, time.time, tmp_path, tmp_path)
    (tmp_path / "good").write_text(config_of("https://10.0.0.1", {"token": TOKEN}))
    (tmp_path / "bad").write_text("a: [" + TOKEN)
    inspect = ISettingsChecker(factory).inspect
    inspect(KubernetesSettings(kubeconfig="good"), context)
    inspect(KubernetesSettings(kubeconfig="good", context="there", bind="::"), context)
    for settings, words in (
        (KubernetesSettings(kubeconfig="none"), "no such file"),
        (KubernetesSettings(kubeconfig="bad"), "not YAML"),
        (KubernetesSettings(kubeconfig="good", context="x"), "known: here, there"),
        (KubernetesSettings(kubeconfig="good", bind="$(id)"), "is no address"),
        (KubernetesSettings(), "does not run in a pod"),
    ):
        with pytest.raises(ConfigError) as caught:
            inspect(settings, context)
        assert words in str(caught.value)
        assert TOKEN not in str(caught.value)


def test_the_service_account_of_the_own_pod(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("one")
    (tmp_path / "namespace").write_text("vis\n")
    (tmp_path / "ca.crt").write_bytes(Authority(tmp_path).ca.read_bytes())
    environment = {"KUBERNETES_SERVICE_HOST": "fd00::1", "KUBERNETES_SERVICE_PORT": "6443"}
    access = in_cluster("launchers.k", environment, tmp_path)
    assert (access.server, access.namespace) == ("https://[fd00::1]:6443", "vis")
    assert access.headers() == {"Authorization": "Bearer one"}
    (tmp_path / "token").write_text("two")
    assert access.headers() == {"Authorization": "Bearer two"}
    (tmp_path / "ca.crt").write_text("nonsense")
    with pytest.raises(ConfigError, match="cannot be used"):
        in_cluster("launchers.k", environment, tmp_path)


def test_plans_are_checked() -> None:
    from msgspec import convert

    table = {
        "services": {
            "renderer": {
                "image": "-x y",
                "command": ["{parameters.no}"],
                "arguments": ["{oops}"],
                "environment": {"VSMGATE_X": "1"},
                "directory": "here",
                "mounts": {"data": "relative"},
            },
            "other": {"image": "x"},
        },
        "labels": {"vsmgate/job": "mine"},
    }
    services = {name: Service(port=80) for name in ("renderer", "a_b", "a-b")}
    usecase = Usecase("x", "k", services, {"kubernetes": table})
    told = KubernetesLauncherFactory().check(usecase, convert(table, KubernetesPlan))
    text = "\n".join(told)
    for words in (
        "services.a-b is missing",
        "services.other: the use case has no service",
        "differ only in - and _",
        "cannot both have port 80",
        "services.renderer.image: '-x y' is no image",
        "services.renderer.command: '{parameters.no}'",
        "services.renderer.arguments: '{oops}'",
        "VSMGATE_ variables are set by the gateway",
        "directory: 'here' must be an absolute path",
        "mounts.data: there is no volume data",
        "mounts.data: 'relative' must be an absolute path",
        "labels.'vsmgate/job' is set by the gateway",
    ):
        assert words in text
    assert all(line.startswith(("launch.kubernetes.", "services ")) for line in told)
