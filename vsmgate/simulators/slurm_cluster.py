"""A real Slurm of two nodes on this machine: munged, slurmctld, two slurmd, slurmrestd.

Debian's and Ubuntu's packages, started by root, on this machine's own address; both nodes are
this machine. `PACKAGES` names them. Blocking: for a program of its own, and for tests.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

__all__ = ["PACKAGES", "PATIENCE", "SlurmCluster", "missing", "spoken"]

PACKAGES = "munge slurmctld slurmd slurm-client slurm-wlm-basic-plugins slurmrestd"
PACKAGES += " slurm-wlm-jwt-plugin"
NEEDED = (
    "munged", "slurmctld", "slurmd", "slurmrestd", "setpriv",
    "sbatch", "squeue", "scancel", "scontrol", "sinfo",
)  # fmt: skip

#: Generous: it bounds a failure, a success does not wait for it.
PATIENCE = 60.0

#: It wants to be nobody's, and trusts the tokens that `SlurmCluster.token` makes.
_RESTD = "setpriv --reuid=65534 --regid=65534 --clear-groups env SLURM_JWT=daemon slurmrestd"

CONF = """\
ClusterName=vsmgate
SlurmctldHost={host}({address})
SlurmctldPort={ports[0]}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
AuthAltTypes=auth/jwt
AuthAltParameters=jwt_key={folder}/jwt.key
CredType=cred/munge
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerParameters=sched_interval=1,bf_interval=1,batch_sched_delay=0
SlurmdParameters=config_overrides
MpiDefault=none
SwitchType=switch/none
ReturnToService=2
MessageTimeout=5
KillWait=2
MinJobAge=300
NodeName=DEFAULT CPUs=4 RealMemory=1000 Feature=cpu
NodeName=n1 NodeHostname={host} NodeAddr={address} Port={ports[1]}
NodeName=n2 NodeHostname={host} NodeAddr={address} Port={ports[2]}
PartitionName=prod Nodes=n1,n2 Default=YES MaxTime=UNLIMITED DefaultTime=60 State=UP
"""


def missing() -> str:
    """Return what keeps a Slurm from being run here, or nothing."""
    if absent := [name for name in NEEDED if shutil.which(name, path=_path()) is None]:
        return f"Slurm ({', '.join(absent)})"
    if os.geteuid() != 0:
        return "root, whom Slurm's daemons need,"
    try:
        socket.gethostbyname(socket.gethostname())
    except OSError:
        return "an address for this machine's own name (/etc/hosts)"
    return ""


def spoken(said: str) -> list[str]:
    """Return the APIs in slurmrestd's list that the launcher speaks, the newest last."""
    return sorted(set(re.findall(r"/(v0\.0\.(?:38|[4-9]\d))\b", said)))


def _path() -> str:
    return f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"


class SlurmCluster:
    """The daemons, their folder, and what can be done to them.

    ``folder``: an empty one, which stays; without it a temporary one, which `stop` removes.
    Its path must be short, because sockets are in it.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._keep = folder is not None
        self.folder = folder or Path(tempfile.mkdtemp(prefix="vsmgate-slurm-"))
        self.conf = self.folder / "slurm.conf"
        self.environment = {**os.environ, "PATH": _path(), "SLURM_CONF": str(self.conf)}
        self.rest = ""
        self.rest_versions: list[str] = []
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def start(self) -> None:
        """Write the configuration and start everything; it is ready then."""
        self.folder.chmod(0o755)  # jobs of other users must come in
        (self.folder / "state").mkdir()
        for name in ("munge.key", "jwt.key"):
            key = self.folder / name
            key.touch(0o600)
            key.write_bytes(os.urandom(1024 if name == "munge.key" else 32))
        host = socket.gethostname().partition(".")[0]
        address = socket.gethostbyname(socket.gethostname())
        ports = _free_ports(address, 3)
        self.conf.write_text(
            CONF.format(host=host, address=address, ports=ports, folder=self.folder)
        )
        self._spawn(
            "munged", "--foreground", "--force", f"--key-file={self.folder}/munge.key",
            *(f"--{name}={self.folder}/munge.{name[:-5]}" for name in ("pid-file", "seed-file")),
            f"--socket={self.folder}/munge.socket",
        )  # fmt: skip
        self._until(lambda: (self.folder / "munge.socket").is_socket(), "munged")
        self.start_controller()
        for node in ("n1", "n2"):
            self.start_node(node)
        self.wait_idle()

    def start_rest(self) -> str:
        """Start slurmrestd, unless it runs, and return its URL.

        ``rest_versions`` are then those of its APIs that the launcher speaks, the newest last.
        """
        if not self.rest:
            (port,) = _free_ports("127.0.0.1", 1)
            # Before 23.02 each API is a plugin of its own, later a data parser. Those of
            # accounting do not start without it.
            lists = [self._run(f"{_RESTD} -{way} list", subprocess.STDOUT) for way in "sd"]
            said = "".join(done.stdout for done in lists)
            self.rest_versions = spoken(said)
            if not self.rest_versions:
                raise RuntimeError(f"slurmrestd has no API that the launcher speaks: {said}")
            plugins = ",".join(re.findall(r"openapi/(?:slurmctld|v\S+)", said))
            arguments = ["-a", "rest_auth/jwt", "-s", plugins, f"127.0.0.1:{port}"]
            self._spawn(*_RESTD.split(), *arguments, name="slurmrestd")
            self._until(lambda: _listens(port), "slurmrestd")
            self.rest = f"http://127.0.0.1:{port}"
        return self.rest

    def end_rest(self) -> None:
        """End slurmrestd."""
        process = self._processes.pop("slurmrestd")
        process.terminate()
        process.wait(PATIENCE)
        self.rest = ""

    def token(self, user: str = "root", lifespan: int = 365 * 86400) -> str:
        """Return a token for slurmrestd, good for ``lifespan`` seconds."""
        said = self.ask(f"scontrol token username={user} lifespan={lifespan}")
        return said.strip().removeprefix("SLURM_JWT=")

    def start_controller(self) -> None:
        """Start slurmctld."""
        self._spawn("slurmctld", "-D")

    def end_controller(self, number: signal.Signals = signal.SIGTERM) -> None:
        """End slurmctld; killed, it loses what happened in its last five seconds."""
        process = self._processes.pop("slurmctld")
        process.send_signal(number)
        process.wait(PATIENCE)

    def forget_jobs(self) -> None:
        """Let the controller forget all jobs that it ever had, and count from 1 again."""
        self.end_controller(signal.SIGKILL)
        for path in (self.folder / "state").glob("job_state*"):
            path.unlink()
        self.start_controller()
        self.wait_idle()

    def start_node(self, node: str) -> None:
        """Start a node's slurmd."""
        self._spawn("slurmd", "-D", "-N", node, name=node)

    def fail_node(self, node: str) -> None:
        """Kill a node's slurmd, and let the controller know at once that the node is down."""
        process = self._processes.pop(node)
        process.kill()
        process.wait(PATIENCE)
        self.ask(f"scontrol update nodename={node} state=down reason=vsmgate")

    def wait_idle(self) -> None:
        """Wait until both nodes can take jobs, and have none."""
        self._until(lambda: set(self.ask("sinfo -h -N -o %T").split()) == {"idle"}, "idle nodes")

    def ask(self, command: str) -> str:
        """Return what one of Slurm's commands prints; nothing when it fails."""
        done = self._run(command, subprocess.PIPE)
        return done.stdout if done.returncode == 0 else ""

    def stop(self) -> None:
        """End every job and every daemon, and remove the folder if it is temporary."""
        try:
            if "slurmctld" in self._processes:
                self.ask("scancel --state=PENDING,RUNNING,SUSPENDED")
                with contextlib.suppress(RuntimeError):
                    self._until(lambda: not self.ask("squeue -h"), "the jobs' end", 15.0)
        finally:
            for process in self._processes.values():
                process.send_signal(signal.SIGTERM)
            for process in self._processes.values():
                try:
                    process.wait(15.0)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait(PATIENCE)
            for pid in self.processes():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            if not self._keep:
                shutil.rmtree(self.folder, ignore_errors=True)

    def processes(self) -> list[int]:
        """Return the pids of all processes of this cluster: daemons, steps, jobs.

        Those that supervise jobs overwrite their environment, but have a socket in the folder.
        """
        variable = f"SLURM_CONF={self.conf}".encode()
        lines = Path("/proc/net/unix").read_text().splitlines()
        fields = [line.split(maxsplit=7) for line in lines]
        inside = f"{self.folder}/"
        inodes = {f"socket:[{f[6]}]" for f in fields if len(f) == 8 and f[7].startswith(inside)}
        found = []
        for place in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                own = variable in (place / "environ").read_bytes().split(b"\0")
                if own or not inodes.isdisjoint(_open_files(place)):
                    found.append(int(place.name))
        return found

    def _run(self, command: str, errors: int) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command.split(),
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            timeout=PATIENCE,
            check=False,
        )

    def _spawn(self, program: str, *arguments: str, name: str = "") -> None:
        path = shutil.which(program, path=_path())
        assert path is not None
        with (self.folder / f"{name or program}.log").open("ab") as log:
            self._processes[name or program] = subprocess.Popen(
                [path, *arguments],
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
            )

    def _until(self, true: Callable[[], object], what: str, patience: float = PATIENCE) -> None:
        deadline = time.monotonic() + patience
        while not true():
            if time.monotonic() > deadline:
                logs = [f"{p.name}: {p.read_text()[-1500:]}" for p in self.folder.glob("*.log")]
                raise RuntimeError(f"waited in vain for {what}\n" + "\n".join(logs))
            time.sleep(0.05)


def _open_files(place: Path) -> Iterator[str]:
    for descriptor in (place / "fd").iterdir():
        with contextlib.suppress(OSError):
            yield os.readlink(descriptor)


def _free_ports(address: str, count: int) -> list[int]:
    """Return ports that nothing listens at."""
    sockets = [socket.create_server((address, 0)) for _ in range(count)]
    ports = [found.getsockname()[1] for found in sockets]
    for found in sockets:
        found.close()
    return ports


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1.0).close()
    except OSError:
        return False
    return True
