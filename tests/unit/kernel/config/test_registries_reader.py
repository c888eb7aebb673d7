"""The registries in force follow the files, and a file that becomes invalid changes nothing."""

import logging
from pathlib import Path

import pytest

from kernel.config.registries_reader import RegistriesReader
from kernel.errors import FailedPrecondition
from kernel.formats.registries_conf import Conf


def test_rereads_what_changed(tmp_path: Path) -> None:
    file = tmp_path / "registries.conf"
    reader = RegistriesReader(file)
    assert reader.conf() == Conf()
    file.write_text('[[registry]]\nlocation = "a.example"\nblocked = true\n')
    assert reader.conf().registries["a.example"].blocked
    drop_in = tmp_path / "registries.conf.d" / "50-a.conf"
    drop_in.parent.mkdir()
    drop_in.write_text('[[registry]]\nlocation = "a.example"\ninsecure = true\n')
    (drop_in.parent / "60-a.txt").write_text("not read")
    assert not reader.conf().registries["a.example"].blocked
    assert reader.conf().registries["a.example"].insecure
    drop_in.unlink()
    assert reader.conf().registries["a.example"].blocked


def test_a_file_that_goes_bad_leaves_the_last_good_one(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    file = tmp_path / "registries.conf"
    file.write_text("no toml")
    reader = RegistriesReader(file)
    for _ in range(2):
        with pytest.raises(FailedPrecondition, match=r"registries\.conf"):
            reader.conf()
    file.write_text('[[registry]]\nlocation = "a.example"\n')
    good = reader.conf()
    file.write_text("no toml again")
    assert reader.conf() == reader.conf() == good
    assert len([record for record in caplog.records if "no toml" in record.message or str(file) in record.message]) == 1
