"""A daemon of a test's own: its root, run, sockets, network, bridge and cgroup parent belong to no other test.

Everything of it lies below one short folder in /tmp (a unix socket's path has 108 bytes) and has its name, so that its
remains can be distinguished from the things of other tests at the same time.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import grpc
import psutil
import yaml

from tests.harness import host
from tests.harness.cri import Cri

CHECKOUT = Path(__file__).resolve().parents[2]
READY_LIMIT = 60.0
STOP_LIMIT = 15.0 * host.SLOWNESS
DRIVER = os.environ.get("CRISP_TEST_CGROUP_DRIVER", "cgroupfs")
"""systemd only if systemd is process 1."""

ACCEPT_ALL = '{"default": [{"type": "insecureAcceptAnything"}]}'
"""A policy for signatures that requires none."""


class Daemon:
    """crisp as a child process of the test."""

    def __init__(self, registries: str = "", *, network: bool = True, **settings: object) -> None:
        self.name = f"ct{secrets.token_hex(4)}"
        self.folder = Path(tempfile.mkdtemp(prefix=f"{self.name}-", dir="/tmp"))
        self.folder.chmod(0o755)  # the unprivileged workers traverse it
        self.root = self.folder / "root"
        self.run = self.folder / "run"
        self.log = self.folder / "log"
        self.logs = self.folder / "pods"
        """Pods' log directories."""
        self.bridge = self.name
        self.subnet = f"10.{secrets.randbelow(100) + 100}.{secrets.randbelow(256)}"
        self.leases = self.folder / "leases"
        self.cgroup_parent = f"/{self.name}.slice" if DRIVER == "systemd" else f"/{self.name}"
        self.config_file = self.folder / "crisp.yaml"
        self.socket = self.run / "crisp.sock"
        self.process: subprocess.Popen[bytes] | None = None
        self.cri = Cri(str(self.socket))
        (self.folder / "cni").mkdir()
        if network:
            self.write_network()
        self.containers = self.folder / "containers"
        """A folder in place of /etc/containers."""
        (self.containers / "certs.d").mkdir(parents=True)
        (self.containers / "registries.conf").write_text(registries)
        for folder in ("registries.d", "lookaside", "policies"):
            (self.containers / folder).mkdir()
        self.policy = self.containers / "policy.json"
        self.policy.write_text(ACCEPT_ALL)
        self.config: dict[str, object] = {
            "root": str(self.root),
            "run": str(self.run),
            "log_level": "info",
            "image": {
                "registries_conf": str(self.containers / "registries.conf"),
                "certs_dir": str(self.containers / "certs.d"),
                "registries_d": str(self.containers / "registries.d"),
                "lookaside_dirs": [str(self.containers / "lookaside")],
                "signature_policy": str(self.policy),
                "signature_policy_dir": str(self.containers / "policies"),
            },
            "network": {"config_dir": str(self.folder / "cni"), "timeout": 20},
            "runtime": {
                "cgroup_parent": self.cgroup_parent,
                "cgroup_driver": DRIVER,
                "handlers": {
                    "runc": {"path": _program("runc")}, "crun": {"path": host.crun(self.folder, _program("crun"))}
                },
            },
        }  # fmt: skip
        self.config.update(settings)
        self.write_config()

    def write_config(self) -> None:
        """Write the configuration in `config`."""
        self.config_file.write_text(yaml.safe_dump(self.config))

    def write_network(self) -> None:
        """Write the CNI list: a bridge of this daemon's own, leases in its own folder."""
        conflist = {
            "cniVersion": "1.0.0",
            "name": self.name,
            "plugins": [
                {
                    "type": "bridge",
                    "bridge": self.bridge,
                    "isGateway": True,
                    "ipMasq": True,
                    "ipam": {
                        "type": "host-local",
                        "dataDir": str(self.leases),
                        "ranges": [[{"subnet": f"{self.subnet}.0/24"}]],
                        "routes": [{"dst": "0.0.0.0/0"}],
                    },
                },
            ],
        }
        (self.folder / "cni" / "10-test.conflist").write_text(json.dumps(conflist))

    def start(self, *, wait: bool = True) -> None:
        """Start the daemon and wait until it is ready."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                # The command of the installed program, which has no checkout among Python's folders.
                [sys.executable, "-P", "-m", "kernel.cli.main", "--config", str(self.config_file), "daemon"],
                cwd=CHECKOUT, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        if wait:
            host.until("the daemon is ready", self.ready, READY_LIMIT, every=0.05)

    def ready(self) -> bool:
        """Return whether Status has runtime and network ready."""
        assert self.own_processes(), f"the daemon ended:\n{self.tail()}"
        if not self.socket.exists():
            return False
        try:
            status = self.cri.status(limit=5, wait_for_ready=False)
        except grpc.RpcError:
            return False
        return all(condition.status for condition in status.status.conditions)

    def tail(self, lines: int = 40) -> str:
        """Return the end of the daemon's log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:]) if self.log.exists() else ""

    def command(self, *argv: str, check: bool = True, limit: float = 60) -> subprocess.CompletedProcess[str]:
        """Run the command line on this daemon."""
        done = subprocess.run(
            [sys.executable, "-m", "kernel.cli.main", "--config", str(self.config_file), *argv],
            cwd=CHECKOUT, capture_output=True, text=True, timeout=limit * host.SLOWNESS, check=False,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
        assert not check or done.returncode == 0, f"crisp {' '.join(argv)}: {done.returncode}: {done.stderr}"
        return done

    def workers(self) -> dict[str, int]:
        """Return pids by name, from `crisp workers --json`."""
        return {worker["name"]: worker["pid"] for worker in json.loads(self.command("workers", "--json").stdout)}

    def own_processes(self) -> list[psutil.Process]:
        """Return every process of crisp itself, whatever its parent: named `crisp-…`, with this daemon's log as stderr.

        Containers and conmons are not among these.
        """
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.NoSuchProcess, OSError):
                launcher = self.process is not None and process.pid == self.process.pid
                ours = launcher or (process.name().startswith("crisp-") and self._logs_here(process.pid))
                if ours and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
        return found

    def _logs_here(self, pid: int) -> bool:
        return os.readlink(f"/proc/{pid}/fd/2") == str(self.log)

    def kill(self, name: str) -> int:
        """Send SIGKILL to one process by its name; return its pid. ProcessLookupError while it is away."""
        pid = self.workers()[name]
        if not pid:  # to kill(2), 0 is the test's own group
            raise ProcessLookupError(f"the {name} process is away")
        os.kill(pid, signal.SIGKILL)
        return pid

    def kill_all(self) -> None:
        """Send SIGKILL to every process of crisp at once, as far as that is possible: all are stopped first."""
        victims = self.own_processes()
        for number in (signal.SIGSTOP, signal.SIGKILL):
            for process in victims:
                with suppress(psutil.NoSuchProcess):
                    process.send_signal(number)
        if self.process:
            self.process.wait(10)
        psutil.wait_procs(victims, 10)
        self.process = None

    def stop(self) -> None:
        """End the daemon in order; containers run on."""
        mine = self.own_processes()
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        elif mine:  # its first process was killed, and another one replaces it
            self.command("shutdown")
        if self.process is not None:
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(STOP_LIMIT)
        _, alive = psutil.wait_procs(mine, STOP_LIMIT)
        names = [(one.pid, one.name()) for one in alive if one.is_running()]
        self.kill_all()
        self.process = None
        assert not names, f"these did not end within {STOP_LIMIT} s: {names}\n{self.tail()}"

    def remove_pods(self) -> None:
        """Remove every pod, as the kubelet would."""
        for pod in self.cri.list_pods():
            self.cri.remove_pod(pod.id)

    def leaks(self) -> list[str]:
        """Return all that the daemon, without any pod left, still holds on the host."""
        found = [f"mount {point}" for point in host.mounts(self.folder) if "/netns" in point or "/storage/" in point]
        found += [f"mount {point}" for point in host.mounts(self.run / "runtime")]
        found += [f"namespace {path}" for path in _files(self.run / "netns")]
        found += [f"bundle {path}" for path in _entries(self.run / "runtime") if len(path.name) == 64]
        found += [f"writable layer {path}" for path in _entries(self.root / "storage" / "containers")]
        found += [f"link {name} on the bridge" for name in host.veths(self.bridge)]
        found += [f"lease {path.name}" for path in _files(self.leases) if path.name[:1].isdigit()]
        found += [f"rule {line}" for line in host.rules(self.name)]
        found += [
            f"cgroup {path}" for path in host.cgroups(self.cgroup_parent) if path.name != self.cgroup_parent.strip("/")
        ]
        mine = {process.pid for process in self.own_processes()}
        for process in host.processes(self.folder):
            with suppress(psutil.NoSuchProcess):
                if process.pid not in mine:
                    found.append(f"process {process.pid} {' '.join(process.cmdline())[:200]}")
        return found

    def close(self) -> None:
        """Remove all that is left, also after a failure: nothing of the daemon stays on the host."""
        self.kill_all()
        for process in host.processes(self.folder):
            with suppress(psutil.NoSuchProcess):
                process.kill()
        for pid in host.cgroup_processes(self.cgroup_parent):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        host.until("containers' processes are gone", lambda: not host.cgroup_processes(self.cgroup_parent), 10)
        for point in reversed(host.mounts(self.folder)):
            subprocess.run(["umount", "--lazy", point], capture_output=True, check=False)
        subprocess.run(["ip", "link", "delete", self.bridge], capture_output=True, check=False)
        host.remove_rules(self.name)
        if DRIVER == "systemd":
            subprocess.run(["systemctl", "stop", self.cgroup_parent[1:]], capture_output=True, check=False)
        for folder in host.cgroups(self.cgroup_parent):
            end = time.monotonic() + 5
            while folder.exists() and time.monotonic() < end:
                with suppress(OSError):  # v1 frees a cgroup a moment after its last process
                    folder.rmdir()
        self.cri.close()
        shutil.rmtree(self.folder, ignore_errors=True)


def _program(name: str) -> str:
    path = shutil.which(name, path="/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
    assert path, f"{name} is not installed: deploy/up installs it"
    return path


@contextmanager
def serving(daemon: Daemon, *, wait: bool = True, **sections: dict[str, object]) -> Iterator[Daemon]:
    """Run the body with `daemon` started, its configuration changed by `sections`.

    After the body its pods are removed, and nothing of them may be left on the host. The daemon is removed in any case.
    """
    try:
        for name, keys in sections.items():
            before = daemon.config.get(name, {})
            assert isinstance(before, dict)
            daemon.config[name] = {**before, **keys}
        daemon.write_config()
        daemon.start(wait=wait)
        yield daemon
        daemon.remove_pods()
        leaks = daemon.leaks()
        daemon.stop()
        assert not leaks, "left on the host after the last pod:\n" + "\n".join(leaks)
    finally:
        daemon.close()


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if not path.is_dir()) if folder.exists() else []


def _entries(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_dir()) if folder.exists() else []
