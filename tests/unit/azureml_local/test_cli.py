"""The command line: one line for what is wrong with a home, and one `up` or `down` of it at a time."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from azureml_local import cli
from azureml_local.home import Home, Settings


def test_a_home_that_cannot_be_made_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    assert cli.main(["up", "--home", str(tmp_path / "file" / "home")]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"azureml-local: error: {tmp_path / 'file'}")
    assert line.endswith("choose another --home")


@pytest.mark.parametrize("words", [["nonsense"], ["up", "--nonsense"], [], ["status", "--home"]])
def test_bad_usage_is_one_line_that_speaks_of_the_users_commands_alone(
    capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    with pytest.raises(SystemExit) as raised:
        cli.main(words)
    assert raised.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("azureml-local: error: ") and "--help" in line
    assert "supervise" not in line


def test_a_wrong_azurite_leaves_no_home_behind(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["up", "--home", str(tmp_path / "home"), "--azurite", str(tmp_path / "absent")]) != 0
    (line,) = capsys.readouterr().err.splitlines()
    assert "not an azurite-blob executable" in line
    assert not (tmp_path / "home").exists()


@pytest.mark.parametrize("text", ["{", "[]", "{}", "7"])
@pytest.mark.parametrize("command", ["status", "env", "down"])
def test_damaged_settings_are_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str, text: str
) -> None:
    (tmp_path / "settings.json").write_text(text)
    assert cli.main([command, "--home", str(tmp_path)]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"azureml-local: error: {tmp_path / 'settings.json'}: not what the first start wrote")


def test_the_first_two_of_a_home_do_not_work_at_once(tmp_path: Path) -> None:
    """Many tries, each with a home that has no lock file yet, because that is when both may make it."""
    inside = together = 0
    counting = threading.Lock()

    def work(home: Home, start: threading.Barrier) -> None:
        nonlocal inside, together
        start.wait()
        with cli._lock(home):
            with counting:
                inside += 1
                together = max(together, inside)
            threading.Event().wait(0.002)
            with counting:
                inside -= 1

    for number in range(40):
        home = Home(tmp_path / str(number))
        home.make()
        start = threading.Barrier(4)
        workers = [threading.Thread(target=work, args=(home, start)) for _ in range(4)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    assert together == 1


def test_a_plane_without_endpoints_says_so(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    home.make()
    settings = Settings("home-id", "subscription", "group", "workspace", "westeurope", 1, 2, 3)
    assert "no endpoints" in cli._describe(home, settings).splitlines()
