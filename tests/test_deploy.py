"""The steps of the deploy scripts, each by itself in a folder of its own: no package is installed, no network needed.

`deploy/test --fresh` tries the scripts as a whole.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.harness import host

DEPLOY = Path(__file__).resolve().parents[1] / "deploy"


class Steps:
    """A folder with programs that stand in for the system's, and the paths of the scripts moved into it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.programs = folder / "programs"
        self.programs.mkdir()
        self.lock = folder / "lock"
        self.policy_rc = folder / "policy-rc.d"
        self.written = folder / "written"

    def program(self, name: str, script: str) -> None:
        """A program that runs before the system's of the same name."""
        path = self.programs / name
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)

    def run(self, script: str, source: str = "steps.sh", *, check: bool = True) -> str:
        """What a script that has sourced one of ours prints, on both of its outputs."""
        names = {
            "PATH": f"{self.programs}:$PATH", "LOCK_FILE": self.lock, "POLICY_RC": self.policy_rc,
            "WRITTEN": self.written, "DPKG_UPDATES": self.folder / "updates", "LOCK_LIMIT": "5",
            "CONFIG": self.folder / "crisp/crisp.yaml", "CNI_FILE": self.folder / "net.d/10-crisp.conflist",
            "POLICY": self.folder / "containers/policy.json", "LOG": self.folder / "log/crisp.log",
            "VENV": self.folder / "venv",
        }  # fmt: skip
        moved = "\n".join(f'{name}="{value}"' for name, value in names.items())
        whole = f"set -euo pipefail\n. {DEPLOY / source}\n{moved}\n{script}"
        done = subprocess.run(
            ["bash", "-c", whole], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True, timeout=60, check=False,
        )  # fmt: skip
        assert not check or done.returncode == 0, done.stdout
        return done.stdout


@pytest.fixture
def steps(tmp_path: Path) -> Steps:
    return Steps(tmp_path)


@pytest.fixture
def apt(steps: Steps) -> Path:
    """apt-get and dpkg that write down how they were called, and a package that is there once it was installed."""
    log, here = steps.folder / "apt.log", steps.folder / "here"
    steps.program("apt-cache", "exit 100")
    steps.program(
        "dpkg",
        f"cd {steps.folder}\ncase $1 in\n    --audit) cat broken 2>/dev/null; true ;;\n"
        f'    *) echo "dpkg $*" >>{log}; rm -f broken updates/* ;;\nesac',
    )
    steps.program(
        "apt-get",
        f'echo "apt-get $* $DEBIAN_FRONTEND" >>{log}; cat >>{log}\n'
        f'if [ -x {steps.policy_rc} ]; then {steps.policy_rc}; echo "policy $?" >>{log}; fi\n'
        f"case $1 in update) exit 100 ;; install) touch {here} ;; esac",
    )
    return log


INSTALL = 'exec 9>"$LOCK_FILE"; flock 9; install_packages "thing=file:{here}"'


def test_packages_are_installed_without_a_question_and_without_starting_services(steps: Steps, apt: Path) -> None:
    shown = steps.run(INSTALL.format(here=steps.folder / "here"))
    update, install, policy = apt.read_text().splitlines()
    assert "going on with the package lists that are here" in shown
    assert update.startswith("apt-get update")
    assert "--force-confold" in install
    assert "--force-confdef" in install
    assert install.endswith("thing noninteractive")
    assert policy == "policy 101"  # invoke-rc.d's word for no
    assert not steps.policy_rc.exists()
    assert "all there" in steps.run(INSTALL.format(here=steps.folder / "here"))
    assert len(apt.read_text().splitlines()) == 3


def test_a_failed_installation_leaves_no_policy_and_says_what_failed(steps: Steps, apt: Path) -> None:
    steps.program("apt-get", "echo E: no network >&2; exit 100")
    shown = steps.run(INSTALL.format(here=steps.folder / "here"), check=False)
    assert "E: no network" in shown
    assert "failed: apt-get update, and then apt-get install thing" in shown
    assert not steps.policy_rc.exists()


def test_the_administrators_policy_of_services_stays(steps: Steps, apt: Path) -> None:
    steps.policy_rc.write_text("#!/bin/sh\nexit 104\n")
    steps.policy_rc.chmod(0o755)
    steps.run(INSTALL.format(here=steps.folder / "here"))
    assert "policy 104" in apt.read_text()
    assert steps.policy_rc.read_text() == "#!/bin/sh\nexit 104\n"


def test_a_policy_that_a_killed_run_left_forbids_nothing_and_goes_with_the_next(steps: Steps, apt: Path) -> None:
    steps.run("hold_services")
    assert subprocess.run([steps.policy_rc], check=False).returncode == 0
    with steps.lock.open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert subprocess.run([steps.policy_rc], check=False).returncode == 101
    steps.run(INSTALL.format(here=steps.folder / "here"))
    assert not steps.policy_rc.exists()


@pytest.mark.parametrize("sign", ["broken", "updates/0001"])
def test_an_interrupted_installation_is_finished_first(steps: Steps, apt: Path, sign: str) -> None:
    (steps.folder / sign).parent.mkdir(exist_ok=True)
    (steps.folder / sign).write_text("thing is half installed\n")
    shown = steps.run(INSTALL.format(here=steps.folder / "here"))
    assert "finishing an installation of packages that was interrupted" in shown
    assert apt.read_text().startswith("dpkg --configure -a --force-confdef --force-confold\napt-get update")


def test_another_program_that_installs_packages_is_waited_for(steps: Steps) -> None:
    steps.program("busy", f'test -e {steps.folder}/free && exit; touch {steps.folder}/free\n'
                  'echo "E: Could not get lock /var/lib/dpkg/lock-frontend" >&2; exit 100')  # fmt: skip
    assert "waiting for another program that installs packages" in steps.run("unlocked busy")
    steps.program("refused", "echo E: held packages >&2; exit 100")
    assert steps.run("unlocked refused || echo code $?") == "E: held packages\ncode 100\n"


@pytest.mark.skipif(shutil.which("dpkg-deb") is None or os.geteuid() != 0, reason="needs dpkg and root")
def test_a_file_that_was_there_before_its_package_stays(steps: Steps, tmp_path: Path) -> None:
    tree, root = tmp_path / "tree", tmp_path / "root"
    admin = root / "var/lib/dpkg"
    for folder in (tree / "DEBIAN", tree / "etc", root / "etc", admin / "updates", admin / "info"):
        folder.mkdir(parents=True)
    (tree / "DEBIAN/control").write_text(
        "Package: thing\nVersion: 1\nArchitecture: all\nMaintainer: x <x@example.org>\nDescription: x\n"
    )
    (tree / "DEBIAN/conffiles").write_text("/etc/thing\n")
    (tree / "etc/thing").write_text("the package's\n")
    (root / "etc/thing").write_text("ours\n")
    (admin / "status").touch()
    steps.run(
        f"dpkg-deb --build {tree} {tmp_path}/thing.deb >/dev/null\n"
        f'dpkg "${{DPKG_OPTIONS[@]}}" --log={tmp_path}/log --root={root} --install {tmp_path}/thing.deb'
    )
    assert (root / "etc/thing").read_text() == "ours\n"
    assert (root / "etc/thing.dpkg-dist").read_text() == "the package's\n"


def test_a_file_of_ours_is_told_from_one_that_somebody_changed_or_wrote(steps: Steps) -> None:
    target, other = steps.folder / "new/file", steps.folder / "other"
    other.write_text("same\n")
    steps.run(f"echo old | put_file {target}; echo same | put_file {target}; is_ours {target}; ! is_ours {other}")
    assert target.read_text() == "same\n"
    assert [path.name for path in target.parent.iterdir()] == ["file"]
    assert len(steps.written.read_text().splitlines()) == 1
    target.write_text("changed\n")
    steps.run(f"! is_ours {target}")


CONFIGURE = "mkdir -p $VENV/bin; ln -s /bin/true $VENV/bin/python; write_configuration"
"""Without the check that crisp can read it."""


def test_what_the_administrator_has_is_kept(steps: Steps) -> None:
    theirs = {"crisp/crisp.yaml": "root: /mine\n", "net.d/87-mine.json": "{}", "containers/policy.json": "{}"}
    for name, text in theirs.items():
        (steps.folder / name).parent.mkdir(exist_ok=True)
        (steps.folder / name).write_text(text)
    steps.run(CONFIGURE, "up")
    assert {name: (steps.folder / name).read_text() for name in theirs} == theirs
    assert not steps.written.exists()


@pytest.mark.parametrize(
    ("found", "kept"), [("/opt/other/bin/crisp", True), ("/old/checkout/.venv/bin/crisp", False), (None, False)]
)
def test_a_command_of_another_origin_is_kept(steps: Steps, found: str | None, kept: bool) -> None:
    link = steps.folder / "crisp"
    if found is not None:
        link.symlink_to(found)
    steps.run(f"LINK={link}; link_command", "up")
    assert os.readlink(link) == (found if kept else f"{steps.folder}/venv/bin/crisp")


def test_what_a_killed_run_left_half_written_is_no_configuration(steps: Steps) -> None:
    (steps.folder / "net.d").mkdir()
    (steps.folder / "net.d/.crisp-deploy.new").write_text('{"cniVer')
    (steps.folder / "net.d/notes.txt").write_text("no network")
    steps.run(CONFIGURE, "up")
    written = {"net.d/10-crisp.conflist": "cni/10-crisp.conflist", "containers/policy.json": "policy.json"}
    for name, ours in written.items():
        assert (steps.folder / name).read_bytes() == (DEPLOY / ours).read_bytes()
    assert not (steps.folder / "net.d/.crisp-deploy.new").exists()


def test_a_policy_that_a_package_owns_by_now_is_given_back_to_it(steps: Steps) -> None:
    policy = steps.folder / "containers/policy.json"
    steps.program("dpkg-query", "exit 1")
    steps.run('echo ours | put_file "$POLICY"; remove_policy', "down")
    assert not policy.parent.exists()
    steps.run('echo ours | put_file "$POLICY"; echo theirs >"$POLICY.dpkg-dist"; remove_policy', "down")
    assert policy.read_text() == "theirs\n"
    assert [path.name for path in policy.parent.iterdir()] == ["policy.json"]
    steps.program("dpkg-query", 'echo "thing: $2"')
    assert "the package thing needs one" in steps.run("remove_policy", "down")
    assert policy.exists()


PYTHON = """echo "$@" >>{folder}/python.log
case "$*" in
    -V) echo Python 3.13.5 ;;
    *venv*) rm -rf {venv}; mkdir -p {venv}/bin; cp "$0" {venv}/bin/python ;;
    *'pip install'*) test ! -e {folder}/offline ;;
    *'pip --version'*) grep -q ensurepip {folder}/python.log ;;
esac"""


def test_a_half_made_environment_is_made_again_and_a_whole_one_is_not(steps: Steps) -> None:
    venv = steps.folder / "venv"
    steps.program("python3", PYTHON.format(folder=steps.folder, venv=venv))
    make = f'find_python() {{ echo {steps.programs}/python3; }}; make_venv ""'

    def made() -> int:
        return (steps.folder / "python.log").read_text().count("-m venv --clear")

    (steps.folder / "offline").touch()
    assert "failed: pip install" in steps.run(make, check=False)
    assert not (venv / "unfinished").exists()  # what pip could not do it has undone: nothing is half made
    (steps.folder / "offline").unlink()
    steps.run(make)
    assert made() == 1
    assert "up to date" in steps.run(make)
    (venv / "stamp").unlink()
    (venv / "unfinished").touch()  # killed while pip was at it
    steps.run(make)
    assert made() == 2
    assert not (venv / "unfinished").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: run deploy/test")
@pytest.mark.parametrize("contained", [False, True])
def test_a_daemon_in_a_container_is_not_this_machines(steps: Steps, contained: bool) -> None:
    log = steps.folder / "log/crisp.log"
    log.parent.mkdir()
    program = shutil.copy(shutil.which("sleep") or "", steps.folder / "crisp-front")
    prefix = ["unshare", "--pid", "--fork", "--kill-child"] if contained else []

    def pids() -> set[str]:
        entries = subprocess.run(["pgrep", "--exact", "crisp-front"], capture_output=True, text=True, check=False)
        return {pid for pid in entries.stdout.split() if os.path.realpath(f"/proc/{pid}/exe") == str(program)}

    with log.open("ab") as stderr, subprocess.Popen([*prefix, program, "60"], stderr=stderr) as daemon:
        try:
            host.until("it runs", lambda: len(pids()) == 1)
            assert (pids() <= set(steps.run("crisp_pids").split())) is not contained
        finally:
            daemon.kill()
