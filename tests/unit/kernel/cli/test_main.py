"""The command line as a whole: options in any place, exit statuses, errors of one line."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from kernel import errors
from kernel.cli.command_table import COMMANDS, Command
from kernel.cli.context import Context
from kernel.cli.exit_status import Exit, NotReachable, status_of
from kernel.cli.main import main, parser


@pytest.mark.parametrize("arguments", [["--json", "pods"], ["pods", "--json"]])
def test_global_options_stand_anywhere(arguments: list[str]) -> None:
    assert parser().parse_args(arguments).json is True
    assert parser().parse_args(["--config", "/x", *arguments]).config_file == Path("/x")
    assert parser().parse_args([*arguments, "--socket", "/y"]).socket == Path("/y")
    assert parser().parse_args(["pods"]).json is False


def test_a_command_keeps_its_own_options() -> None:
    options = parser().parse_args(["exec", "web", "ls", "--json", "-l"])
    assert (options.container, options.command, options.json) == ("web", ["ls", "--json", "-l"], False)


@pytest.mark.parametrize("command", [*(command.name for command in COMMANDS), "image load"])
def test_every_command_has_help_with_exit_statuses(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([*command.split(), "--help"])
    assert ended.value.code == 0
    out = capsys.readouterr().out
    assert "exit status:" in out
    assert "cannot be reached" in out


@pytest.mark.parametrize("command", [command for command in COMMANDS if command.act])
def test_every_command_exists(command: Command) -> None:
    module, _, name = command.act.partition(":")
    assert callable(getattr(__import__(f"kernel.cli.commands.{module}", fromlist=[name]), name))


@pytest.mark.parametrize(
    "arguments", [[], ["nothing"], ["exec", "web"], ["stop"], ["run"], ["logs", "x", "--tail", "-1"], ["pods", "--js"]]
)
def test_wrong_usage(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == Exit.USAGE
    assert "usage:" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (errors.NotFound("x"), 3),
        (errors.InvalidInput("x"), 2),
        (NotReachable("x"), 4),
        (errors.Unavailable("x"), 1),
        (errors.Internal("x"), 1),
    ],
)
def test_statuses(error: errors.CrispError, status: int) -> None:
    assert status_of(error) == status


@pytest.mark.parametrize("command", [["pods"], ["ps"], ["images"], ["workers"], ["doctor"], ["rm", "x"], ["shutdown"]])
def test_no_daemon(command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "crisp.yaml"
    config.write_text(f"root: {tmp_path}/root\nrun: {tmp_path}/run\n")
    assert main(["--config", str(config), *command]) == Exit.NOT_REACHABLE
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("crisp: socket ")
    assert captured.err.count("\n") == 1
    assert "crisp daemon" in captured.err


def test_a_wrong_configuration_names_file_line_and_key(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "crisp.yaml"
    config.write_text("root: /x\nrooot: /y\n")
    assert main(["--config", str(config), "config"]) == Exit.USAGE
    assert f"{config}, line 2, key 'rooot'" in capsys.readouterr().err


def test_config_in_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "crisp.yaml"
    config.write_text("log_level: debug\n")
    assert main(["--config", str(config), "--json", "config"]) == 0
    assert json.loads(capsys.readouterr().out)["log_level"] == "debug"
    assert main(["--config", str(config), "config"]) == 0
    assert "log_level: debug" in capsys.readouterr().out


def test_an_error_of_the_system_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(_: Context, __: object) -> int:
        raise OSError(28, "No space left on device", "/x\x1b[2J")

    monkeypatch.setattr("kernel.cli.commands.daemon.version", fail)
    assert main(["version"]) == Exit.FAILED
    err = capsys.readouterr().err
    assert err.startswith("crisp: ")
    assert "No space left" in err
    assert "\x1b" not in err


def test_version_starts_without_grpc() -> None:
    code = (
        "import sys; from kernel.cli.main import main; main(['version'])\n"
        "heavy = {'grpc', 'zmq', 'msgspec', 'yaml', 'rich', 'asyncio', 'google'} & sys.modules.keys()\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=30)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("crisp ")
