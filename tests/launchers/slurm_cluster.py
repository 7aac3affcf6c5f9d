"""A real Slurm on this machine: munged, slurmctld and two slurmd, for tests."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

import psutil

NEEDED = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scancel", "scontrol", "sinfo")

#: Generous: it bounds a failure, a success does not wait for it.
PATIENCE = 60.0

CONF = """\
ClusterName=vsmgate
SlurmctldHost={host}({address})
SlurmctldPort={ports[0]}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
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
NodeName=n1 NodeHostname={host} NodeAddr={address} Port={ports[1]} CPUs=4 RealMemory=1000
NodeName=n2 NodeHostname={host} NodeAddr={address} Port={ports[2]} CPUs=4 RealMemory=1000
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


def _path() -> str:
    return f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"


class SlurmCluster:
    """The daemons, their folder, and what tests do to them."""

    def __init__(self) -> None:
        # Not pytest's folder: a socket's path must be short, and other users must come in.
        self.folder = Path(tempfile.mkdtemp(prefix="vsmgate-slurm-"))
        self.conf = self.folder / "slurm.conf"
        self.environment = {**os.environ, "PATH": _path(), "SLURM_CONF": str(self.conf)}
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def start(self) -> None:
        """Write the configuration and start everything; it is ready then."""
        self.folder.chmod(0o755)
        (self.folder / "state").mkdir()
        key = self.folder / "munge.key"
        key.write_bytes(os.urandom(1024))
        key.chmod(0o400)
        host = socket.gethostname().partition(".")[0]
        address = socket.gethostbyname(socket.gethostname())
        self.conf.write_text(
            CONF.format(host=host, address=address, ports=_free_ports(address), folder=self.folder)
        )
        self._spawn(
            "munged",
            *("--foreground", "--force", f"--key-file={key}"),
            *(f"--{name}={self.folder}/munge.{name[:-5]}" for name in ("pid-file", "seed-file")),
            f"--socket={self.folder}/munge.socket",
        )
        self._until(lambda: (self.folder / "munge.socket").is_socket(), "munged")
        self.start_controller()
        for node in ("n1", "n2"):
            self._spawn("slurmd", "-D", "-N", node, name=node)
        self.wait_idle()

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

    def wait_idle(self) -> None:
        """Wait until both nodes can take jobs, and have none."""
        self._until(lambda: set(self.ask("sinfo -h -N -o %T").split()) == {"idle"}, "idle nodes")

    def ask(self, command: str) -> str:
        """Return what one of Slurm's commands prints; nothing when it fails."""
        done = subprocess.run(
            command.split(),
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        return done.stdout if done.returncode == 0 else ""

    def stop(self) -> None:
        """End every job and every daemon, and remove the folder."""
        try:
            if "slurmctld" in self._processes:
                self.ask("scancel --state=PENDING,RUNNING,SUSPENDED")
                with contextlib.suppress(AssertionError):
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
            for stray in self.processes():
                with contextlib.suppress(psutil.NoSuchProcess):
                    stray.kill()
            shutil.rmtree(self.folder, ignore_errors=True)

    def processes(self) -> list[psutil.Process]:
        """Return all processes of this cluster: daemons, steps, jobs."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                # Those that supervise jobs overwrite their environment, but have a socket here.
                if process.environ().get("SLURM_CONF") == str(self.conf) or any(
                    str(connection.laddr).startswith(f"{self.folder}/")
                    for connection in process.net_connections("unix")
                ):
                    found.append(process)
        return found

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

    def _until(self, true: object, what: str, patience: float = PATIENCE) -> None:
        assert callable(true)
        deadline = time.monotonic() + patience
        while not true():
            if time.monotonic() > deadline:
                logs = [f"{p.name}: {p.read_text()[-1500:]}" for p in self.folder.glob("*.log")]
                raise AssertionError(f"waited in vain for {what}\n" + "\n".join(logs))
            time.sleep(0.05)


def _free_ports(address: str) -> list[int]:
    """Return three ports that nothing listens at, none of those given to clients."""
    sockets = [socket.create_server((address, 0)) for _ in range(3)]
    ports = [found.getsockname()[1] for found in sockets]
    for found in sockets:
        found.close()
    return ports
