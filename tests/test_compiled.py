"""Functions that numba compiles, and what is there without it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from kaizen.compute.compiled import can_compile, compiler

pytestmark = pytest.mark.skipif(not can_compile(), reason="numba is not installed")

PROGRAM = """
import sys
import numpy as np
from kaizen.compute.compiled import compiled, inlined, memory_at, prepare
assert "numba" not in sys.modules
prepare()
assert "numba" in sys.modules and "scipy" not in sys.modules
import scipy.linalg  # can still be imported

array_at = memory_at()

@inlined
def twice(value):
    return FACTOR * value

@compiled
def doubled(address, count):
    numbers = array_at(address, (count,), np.float32)
    for i in range(count):
        numbers[i] = twice(numbers[i])

numbers = np.arange(4, dtype=np.float32)
doubled(numbers.ctypes.data, 4)
print(numbers.tolist(), sum(doubled.stats.cache_hits.values()))
"""


def run(program: Path, folder: Path, factor: int = 2) -> str:
    program.write_text(PROGRAM.replace("FACTOR", str(factor)))
    done = subprocess.run(
        [sys.executable, str(program)], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_machine_code_is_kept_for_the_same_source_only(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    assert run(program, tmp_path) == "[0.0, 2.0, 4.0, 6.0] 0"
    assert run(program, tmp_path) == "[0.0, 2.0, 4.0, 6.0] 1"
    # Another function of the same file, in a file of the same size.
    assert run(program, tmp_path, factor=3) == "[0.0, 3.0, 6.0, 9.0] 0"


def kept_files(folder: Path, name: str, ending: str) -> list[Path]:
    return sorted((folder / "__pycache__").glob(f"program.{name}-*.{ending}"))


@pytest.mark.parametrize(
    ("ending", "content"), [("nbi", b""), ("nbc", b"\x80\x05no"), ("nbc", b"N.")]
)
def test_damaged_machine_code_is_made_anew(tmp_path: Path, ending: str, content: bytes) -> None:
    program = tmp_path / "program.py"
    run(program, tmp_path)
    (file,) = kept_files(tmp_path, "doubled", ending)
    file.write_bytes(content)
    assert run(program, tmp_path) == "[0.0, 2.0, 4.0, 6.0] 0"
    assert run(program, tmp_path) == "[0.0, 2.0, 4.0, 6.0] 1"


def test_code_of_another_source_is_never_found_under_a_name(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    run(program, tmp_path)
    (old,) = kept_files(tmp_path, "doubled", "nbc")
    run(program, tmp_path, factor=3)
    # As after a kill between the name and the file.
    (new,) = set(kept_files(tmp_path, "doubled", "nbc")) - {old}
    new.unlink()
    assert run(program, tmp_path, factor=3) == "[0.0, 3.0, 6.0, 9.0] 0"


def test_code_with_another_files_number_is_made_anew(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    text = PROGRAM.replace("import sys", "import sys; from other import FACTOR", 1)
    other = tmp_path / "other.py"
    found: list[str] = []
    for factor in (2, 2, 3):
        other.write_text(f"FACTOR = {factor}  # {len(found)}\n")
        program.write_text(text)
        done = subprocess.run(
            [sys.executable, "-B", str(program)], capture_output=True, text=True, check=True
        )
        found.append(done.stdout.strip())
    assert found == [
        "[0.0, 2.0, 4.0, 6.0] 0",
        "[0.0, 2.0, 4.0, 6.0] 1",
        "[0.0, 3.0, 6.0, 9.0] 0",
    ]


@pytest.mark.parametrize(("variable", "hits"), [("NUMBA_OPT", 0), ("NUMBA_NUM_THREADS", 1)])
def test_code_of_other_instructions_is_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str, hits: int
) -> None:
    program = tmp_path / "program.py"
    run(program, tmp_path)
    monkeypatch.setenv(variable, "1")
    assert run(program, tmp_path) == f"[0.0, 2.0, 4.0, 6.0] {hits}"


def test_where_numba_compiles_nothing_torch_computes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NUMBA_DISABLE_JIT", "1")
    assert not can_compile.__wrapped__()
    monkeypatch.setenv("NUMBA_DISABLE_JIT", "0")
    assert can_compile.__wrapped__()


def test_a_numba_that_cannot_be_imported_is_one_message(tmp_path: Path) -> None:
    (tmp_path / "numba").mkdir()
    (tmp_path / "numba" / "__init__.py").write_text("raise ImportError('needs another NumPy')\n")
    code = (
        "import sys; sys.path.insert(0, '.')\n"
        "from kaizen.compute.compiled import prepare\n"
        "from kaizen.errors import KaizenError\n"
        "try: prepare()\n"
        "except KaizenError as error: print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("numba cannot be imported (needs another NumPy); install")


def test_a_full_disk_keeps_nothing_and_stops_nothing(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        "import numba.core.caching\n"
        "def full(*arguments): raise OSError(28, 'No space left on device')\n"
        "numba.core.caching.IndexDataCacheFile._save_index = full\n"
    )
    text = program.read_text() + PROGRAM.replace("assert", "pass #").replace("FACTOR", "2")
    program.write_text(text)
    done = subprocess.run([sys.executable, str(program)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[0.0, 2.0, 4.0, 6.0] 0"
    assert kept_files(tmp_path, "doubled", "nb?") == []


def test_without_a_place_to_keep_it_functions_are_compiled_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "code"
    folder.mkdir()
    # A file is in the way of numba's folder beside the source, and of the user's.
    (folder / "__pycache__").write_text("")
    (tmp_path / "cache").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    program = folder / "program.py"
    for _ in range(2):
        assert run(program, tmp_path) == "[0.0, 2.0, 4.0, 6.0] 0"
    assert (folder / "__pycache__").read_text() == ""


def test_the_version_is_told_or_none(monkeypatch: pytest.MonkeyPatch) -> None:
    assert compiler()[0].isdigit()
    monkeypatch.setattr("kaizen.compute.compiled.can_compile", lambda: False)
    assert compiler() == "none"
