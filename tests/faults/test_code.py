"""No file that is read can run code, and no archive can reach beyond its folder."""

from __future__ import annotations

import io
import pickle
import random
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_archives import batches, opened, publish, write_cifar

from faults.table import fault
from kaizen.data.sources.cifar import PlainUnpickler
from kaizen.errors import KaizenError

# -- the restricted unpickler, attacked --------------------------------------------------------


class Calls:
    """Pickled as a call of ``function``."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return self.call


def attacks(trace: Path) -> dict[str, bytes]:
    """Pickles that would leave ``trace`` behind, or reach something that could."""
    touch = f"open({str(trace)!r}, 'w')"
    text = str(trace).encode()
    return {
        "exec": pickle.dumps(Calls(exec, touch)),
        "eval, of an old protocol": pickle.dumps(Calls(eval, touch), 0),
        "os.mkdir": b"cos\nmkdir\n(S'" + text + b"'\ntR.",
        "posix.mkdir": b"cposix\nmkdir\n(S'" + text + b"'\ntR.",
        "pathlib": pickle.dumps(Calls(Path.mkdir, trace)),
        "an instance by INST": b"(S'" + text + b"'\nios\nmkdir\n.",
        "an instance by OBJ": b"(cos\nmkdir\nS'" + text + b"'\no.",
        "a name with dots": b"\x80\x04\x8c\x05numpy\x8c\x0fndarray.__class__\x93.",
        "a name by STACK_GLOBAL": b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x04true\x85R.",
        "numpy's own loader": b"cnumpy\nload\n(S'" + text + b"'\ntR.",
        "numpy's evaluation": b"cnumpy.testing._private.utils\nrunstring\n(S'"
        + touch.encode()
        + b"'\n}tR.",
        "a codec": b"c_codecs\nencode\n(S'x'\nS'zlib'\ntR.",
        "codecs.open": b"ccodecs\nopen\n(S'" + text + b"'\nS'w'\ntR.",
        "copyreg": b"ccopyreg\n_reconstructor\n(cbuiltins\nobject\ncbuiltins\nobject\nNtR.",
        "getattr": b"cbuiltins\ngetattr\n(cnumpy\nndarray\nS'tofile'\ntR.",
        "an extension code": b"\x80\x02\x82\x01.",
        "a persistent id": b"Px\n.",
        "out-of-band data": b"\x80\x05\x97.",
        "a new object of a known "
        "class": b"\x80\x02cnumpy\nndarray\n)\x81}(S'__class__'\ncos\n_Environ\nub.",
        "state of a known class": b"\x80\x02cnumpy\nndarray\n}S'tofile'\ncos\nsystem\nsb.",
        "state of the decoder": b"\x80\x02c_codecs\nencode\n}S'__code__'\nS'x'\nsb.",
        "a reconstruction of another "
        "class": b"cnumpy.core.multiarray\n_reconstruct\n(cos\n_Environ\n(I0\ntS'b'\ntR.",
        "a list without an end": b"](",
        "a memo that does not exist": b"h\x07.",
        "deep nesting": b"(" * 100_000,
    }


@pytest.mark.parametrize("name", attacks(Path("trace")))
@pytest.mark.rows("a pickle that calls a function")
def test_malicious_pickles_are_refused(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trace = tmp_path / "trace"
    content = batches("cifar10") | {"cifar-10-batches-py/data_batch_3": attacks(trace)[name]}
    path = write_cifar(tmp_path / "data", "cifar10", content)
    publish(monkeypatch, "cifar10", path)
    with pytest.raises(KaizenError) as caught:
        opened("cifar10", path).rows("test")
    fault("a pickle that calls a function").check_text(str(caught.value))
    assert not trace.exists()


def test_what_the_unpickler_lets_in_cannot_be_changed() -> None:
    before = np.ndarray.tofile, PlainUnpickler.find_class
    for attack in attacks(Path("nowhere")).values():
        try:
            PlainUnpickler(io.BytesIO(attack), encoding="bytes").load()
        except Exception:
            continue
    assert (np.ndarray.tofile, PlainUnpickler.find_class) == before


def test_pickles_with_random_damage_are_read_or_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = pickle.dumps({b"data": np.zeros((2, 3072), np.uint8), b"labels": [0, 1]}, 2)
    draw = random.Random(0)
    for _ in range(60):
        data = bytearray(good)
        # Most of it is pixels: what leads to them and comes after is what counts.
        for _ in range(draw.randrange(1, 4)):
            place = draw.choice([draw.randrange(200), len(data) - 1 - draw.randrange(60)])
            data[place] = draw.randrange(256)
        content = batches("cifar10") | {"cifar-10-batches-py/data_batch_3": bytes(data)}
        path = write_cifar(tmp_path / "data", "cifar10", content)
        publish(monkeypatch, "cifar10", path)
        try:
            opened("cifar10", path).rows("test")
        except (KaizenError, MemoryError):
            continue


# -- archives ----------------------------------------------------------------------------------


def entry(
    name: str, kind: bytes = tarfile.REGTYPE, link: str = "", size: int = 0
) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size = kind, link, size
    return info


MEMBER = "cifar-10-batches-py/data_batch_3"
ENTRIES = {
    "a path upwards": entry("../../evil"),
    "an absolute path": entry("/tmp/kaizen-evil"),
    "a link upwards": entry("up", tarfile.SYMTYPE, "../../.."),
    "a device": entry("cifar-10-batches-py/null", tarfile.CHRTYPE),
    "a pipe": entry("cifar-10-batches-py/pipe", tarfile.FIFOTYPE),
}
IN_PLACE = {
    "a symbolic link to a file outside": entry(MEMBER, tarfile.SYMTYPE, "/etc/passwd"),
    "a symbolic link upwards": entry(MEMBER, tarfile.SYMTYPE, "../../secret"),
    "a hard link to a file outside": entry(MEMBER, tarfile.LNKTYPE, "/etc/passwd"),
    "a link to itself": entry(MEMBER, tarfile.SYMTYPE, "data_batch_3"),
    "a device": entry(MEMBER, tarfile.CHRTYPE),
    "a pipe": entry(MEMBER, tarfile.FIFOTYPE),
    "a folder": entry(MEMBER, tarfile.DIRTYPE),
}


def rewritten(path: Path, last: tarfile.TarInfo, without: str = "") -> None:
    """Write an archive again with one more entry."""
    with tarfile.open(path) as old:
        kept = [
            (info, file.read())
            for info in old
            if info.name != without and (file := old.extractfile(info))
        ]
    with tarfile.open(path, "w:gz") as new:
        for info, data in kept:
            new.addfile(info, io.BytesIO(data))
        new.addfile(last, io.BytesIO(bytes(last.size)))


def tree(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*")}


@pytest.mark.parametrize("name", ENTRIES)
@pytest.mark.rows("an archive with paths and links that lead out of it")
def test_nothing_of_an_archive_is_extracted(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Members are read by their names into memory: other entries, wherever they lead, are not
    touched.

    The table's "an archive with paths and links that lead out of it".
    """
    path = write_cifar(tmp_path / "data", "cifar10")
    rewritten(path, ENTRIES[name])
    publish(monkeypatch, "cifar10", path)
    before = tree(tmp_path)
    assert len(opened("cifar10", path).rows("train")) == 100
    assert tree(tmp_path) == before and not Path("/tmp/kaizen-evil").exists()


@pytest.mark.parametrize("name", IN_PLACE)
@pytest.mark.rows("an archive whose member is a link, a device, a pipe or a folder")
def test_a_member_that_is_no_file_is_refused(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_cifar(tmp_path / "data", "cifar10")
    (tmp_path / "secret").write_bytes(
        pickle.dumps({b"data": np.zeros((1, 3072), np.uint8), b"labels": [0]}, 2)
    )
    rewritten(path, IN_PLACE[name], MEMBER)
    publish(monkeypatch, "cifar10", path)
    with pytest.raises(KaizenError) as caught:
        opened("cifar10", path).rows("train")
    fault("an archive whose member is a link, a device, a pipe or a folder").check_text(
        str(caught.value)
    )


@pytest.mark.rows("an archive whose member claims more than there is")
def test_a_member_that_claims_more_than_there_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_cifar(tmp_path / "data", "cifar10")
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as tar:
        info = entry(MEMBER, size=1 << 40)
        assert tar.fileobj is not None
        tar.fileobj.write(info.tobuf() + bytes(512))
    path.write_bytes(file.getvalue())
    publish(monkeypatch, "cifar10", path)
    with pytest.raises(KaizenError) as caught:
        opened("cifar10", path).rows("train")
    fault("an archive whose member claims more than there is").check_text(str(caught.value))
