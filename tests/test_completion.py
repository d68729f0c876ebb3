"""`kaizen completion`: what a shell completes by it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from project import REPOSITORY

from kaizen import cli


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What is printed for bash; and no torch was needed to know it."""
    code = (
        "import sys; from kaizen.cli import main; code = main(['completion', 'bash']); "
        "sys.exit(code or 3 * ('torch' in sys.modules or 'numpy' in sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
    )
    assert done.returncode == 0, done.stderr
    path = tmp_path_factory.mktemp("completion") / "kaizen.bash"
    path.write_text(done.stdout)
    return path


def completed(script: Path, folder: Path, *words: str) -> set[str]:
    """What bash, after the script was sourced, offers for the last of ``words``."""
    if shutil.which("bash") is None:
        pytest.skip("there is no bash here")
    before = words[-2] if len(words) > 1 else ""
    commands = (
        f"source {script}; [[ $(complete -p kaizen) == *' -F '* ]] || exit 3; "
        'COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); '
        f'_shtab_kaizen kaizen "{words[-1]}" "{before}"; printf "%s\\n" "${{COMPREPLY[@]}}"'
    )
    done = subprocess.run(
        ["bash", "--norc", "-c", commands, "bash", "kaizen", *words],
        cwd=folder,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


def test_bash_completes_commands_options_and_files(script: Path, tmp_path: Path) -> None:
    (tmp_path / "photographs").mkdir()
    (tmp_path / "plans.json").touch()
    assert completed(script, tmp_path, "pl") == {"plan"}
    assert {"init", "run", "completion"} <= completed(script, tmp_path, "")
    assert completed(script, tmp_path, "run", "--pl") == {"--plan"}
    assert completed(script, tmp_path, "run", "--plan", "p") == {"photographs", "plans.json"}
    assert completed(script, tmp_path, "init", "x", "--from", "ph") == {"photographs"}
    assert completed(script, tmp_path, "completion", "z") == {"zsh"}


@pytest.mark.parametrize(("shell", "first"), [("zsh", "#compdef kaizen"), ("tcsh", "# AUTOMATIC")])
def test_the_other_shells_have_a_script_too(
    shell: str, first: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["completion", shell]) == 0
    output = capsys.readouterr().out
    assert output.startswith(first) and "explain" in output
    if found := shutil.which(shell):
        done = subprocess.run([found, "-n"], input=output, text=True, capture_output=True)
        assert done.returncode == 0, done.stderr


def test_without_shtab_the_message_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "shtab", None)
    assert cli.main(["completion", "bash"]) == 2
    assert "`pip install shtab`" in capsys.readouterr().err
