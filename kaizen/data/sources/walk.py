"""Walking folders of image files: which files are images, and what was left out and why."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from PIL import features

from kaizen.data.found import Finding
from kaizen.errors import KaizenError

_AVIF = {".avif", ".avifs"}
_READ = """
.jpg .jpeg .jpe .jfif .jfi .jif .mpo .png .apng .bmp .dib .gif .tif .tiff .webp .ppm .pgm .pbm .pnm
"""
_RARE = """
.heic .heics .heif .heifs .hif .jxl .jp2 .j2k .j2c .jpc .jpf .jpx .jpm .jxr .wdp .hdp .psd .psb .xcf
.tga .svg .svgz .eps .ps .ai .pcx .dds .exr .hdr .pfm .pam .qoi .sgi .rgb .rgba .bw .ras .xbm .xpm
.wmf .emf .bpg .flif .dng .cr2 .cr3 .crw .nef .nrw .arw .srf .sr2 .orf .rw2 .raf .pef .srw .x3f .3fr
.raw .dcm .dicom .fit .fits
"""
_PLAIN = """
.txt .md .rst .html .htm .xml .json .jsonl .csv .tsv .yaml .yml .toml .ini .cfg .log .py .ipynb .npy
.npz .mat .pkl .pt .pth .h5 .hdf5 .parquet .zip .tar .gz .tgz .bz2 .xz .7z .rar .mp4 .avi .mov .mkv
.webm .wav .mp3 .pdf .db .lnk .url .md5 .sha1 .sha256 .dvc .ico .icns
"""
# What kaizen.data.image_files decodes.
SUFFIXES = frozenset(_READ.split()) | (_AVIF if features.check("avif") else set())
# Images too: whoever put them into a class folder wants them to be trained on.
UNREAD = (frozenset(_RARE.split()) | _AVIF) - SUFFIXES
# Plainly something else, or kept by a desktop; of other files the first bytes are looked at.
_OTHERS = frozenset(_PLAIN.split())
# Folders, and files, of network drives and desktops; in lower case. Hidden ones begin with a dot.
_HOUSEKEEPING = frozenset(
    {
        "@eadir",
        "@recycle",
        "@recently-snapshot",
        "@tmp",
        "#recycle",
        "#snapshot",
        "$recycle.bin",
        "recycler",
        "system volume information",
        "lost+found",
        "found.000",
        "__macosx",
        "__pycache__",
        "network trash folder",
        "temporary items",
        "thumbs.db",
        "ehthumbs.db",
        "desktop.ini",
        "icon\r",
    }
)
# Copies of the images next to them, unless the folder is a class.
_THUMBNAILS = frozenset({"thumbs", "thumbnails", "thumbnail", "_thumbs", "_thumbnails"})
_MAGIC = re.compile(
    rb"\xff\xd8\xff|\x89PNG\r\n|GIF8[79]a|BM.{4}\0{4}|II\*\0|MM\0\*|RIFF.{4}WEBP|P[1-6]\s+\d|"
    rb".{4}ftyp(avi|hei|hev|mif|msf)|\0{3}\x0cj[PX][ L]|\xff\x0a|8BPS\0\x01",
    re.DOTALL,
)
UNNAMED = "images whose names do not end as an image's"


class File(NamedTuple):
    """An image file: its path relative to the dataset, its size in bytes, and its times of
    modification and change.

    The first can be set, as tar and rsync do; the second cannot, so a file of the same size and
    time is still seen.
    """

    path: str
    size: int
    mtime_ns: int
    ctime_ns: int


@dataclass
class Walk:
    """One listing of a dataset's part: what was left out of it and why, and which folders it saw.

    ``seen`` is shared by the parts: (device, inode) of a folder -> where it was met.
    """

    root: Path
    layout: str
    seen: dict[tuple[int, int], str] = field(default_factory=dict)
    skipped: dict[str, list[str]] = field(default_factory=dict)

    def skip(self, why: str, path: str) -> None:
        """Note that a file or folder is left out."""
        self.skipped.setdefault(why, []).append(path)

    def summary(self) -> list[Finding]:
        """What was left out, by reason: how many, and the first by name."""
        return [Finding(why, len(paths), min(paths)) for why, paths in sorted(self.skipped.items())]

    def unread(self) -> list[Finding]:
        """Of the summary, the images that this Pillow or their names keep from being trained on."""
        return [
            finding
            for finding in self.summary()
            if finding.what == UNNAMED or finding.what.partition(" ")[0] in UNREAD
        ]

    def unread_paths(self) -> list[str]:
        """All paths that `unread` counts."""
        return [path for finding in self.unread() for path in self.skipped[finding.what]]

    def images(self, folder: str) -> list[File]:
        """All images under ``root/folder``, sorted by path; ``folder`` is a class's, or "" for
        the dataset's own.

        Raises KaizenError where a link leads nowhere, in a circle, or to another class or part.
        """
        return sorted(self._walk(folder, ()))

    def _walk(self, folder: str, above: tuple[tuple[int, int], ...]) -> Iterable[File]:
        """``above`` are the (device, inode) of the folders on the way here."""
        here = os.stat(self.root / folder)
        identity = (here.st_dev, here.st_ino)
        if identity in above:
            raise KaizenError(
                f"{self.root / folder} is a link to a folder that holds it; remove the link"
            )
        other = self.seen.setdefault(identity, folder)
        if other != folder:
            raise KaizenError(
                f"{self.root / folder} is the same folder as {self.root / other} (a link or a "
                "mount), so its images would be used twice; remove one"
            )
        entries = scan(self.root / folder, self.layout)
        for entry in entries:
            path = below(folder, entry.name)
            if kept_apart(entry.name) or entry.name.lower() in _THUMBNAILS:
                self._skip_apart(entry, path)
            elif is_folder(entry):
                yield from self._walk(path, (*above, identity))
            elif _suffix(entry.name) in SUFFIXES:
                yield image_file(self.root, path)
            else:
                self.skip(_what(entry), path)
        if not entries and above:
            self.skip("empty folders", folder)

    def outside(self, folder: str, but: str = "class folders") -> None:
        """Note the images that lie in ``root/folder`` itself, where none belongs, or in
        housekeeping folders there.
        """
        for entry in scan(self.root / folder, self.layout):
            if kept_apart(entry.name):
                self._skip_apart(entry, below(folder, entry.name))
            elif _suffix(entry.name) in SUFFIXES | UNREAD and not is_folder(entry):
                self.skip(f"images outside {but}", below(folder, entry.name))

    def beside(self, parts: Collection[str]) -> None:
        """Note the images in the dataset's folder that are in none of its ``parts``."""
        what = f"images beside {' and '.join(sorted(parts))}"
        for entry in scan(self.root, self.layout):
            if entry.name not in parts:
                self._skip_inside(entry, entry.name, what, what)

    def _skip_apart(self, entry: os.DirEntry[str], path: str) -> None:
        """Note the images that a hidden or housekeeping file or folder is or holds."""
        hidden = entry.name.startswith(".")
        of_folder = f"images in {'hidden ' * hidden}{entry.name} folders"
        self._skip_inside(entry, path, "hidden images" if hidden else of_folder, of_folder)

    def _skip_inside(self, entry: os.DirEntry[str], path: str, what: str, of_folder: str) -> None:
        """Note an image file as ``what``, and those in a folder as ``of_folder``."""
        if entry.is_dir(follow_symlinks=False):
            for folder, _, names in os.walk(entry.path):
                for name in names:
                    if _suffix(name) in SUFFIXES | UNREAD:
                        inside = Path(folder, name).relative_to(entry.path).as_posix()
                        self.skip(of_folder, f"{path}/{inside}")
        elif _suffix(entry.name) in SUFFIXES | UNREAD:
            self.skip(what, path)


def below(folder: str, name: str) -> str:
    """The path of what is called ``name`` in a folder, which is "" for the dataset's own."""
    return f"{folder}/{name}" if folder else name


def _suffix(name: str) -> str:
    return os.path.splitext(name)[1].lower()


def kept_apart(name: str) -> bool:
    """Whether a file or folder is hidden, or one of network drives and desktops."""
    return name.startswith(".") or name.lower() in _HOUSEKEEPING


def _what(entry: os.DirEntry[str]) -> str:
    """What a file is that is left out."""
    suffix = _suffix(entry.name)
    if suffix in UNREAD:
        return f"{suffix} images, which Pillow here does not read"
    if suffix not in _OTHERS:
        try:
            with open(entry.path, "rb") as file:
                if stat.S_ISREG(os.fstat(file.fileno()).st_mode) and _MAGIC.match(file.read(16)):
                    return UNNAMED
        except OSError:
            pass
    return f"{suffix} files, no images" if suffix else "files without a suffix, no images"


def scan(folder: Path, layout: str, prefix: str = "") -> list[os.DirEntry[str]]:
    """List a folder; every way in which that fails is a KaizenError, which names the layout
    expected.
    """
    try:
        with os.scandir(folder) as entries:
            found = list(entries)
    except FileNotFoundError as error:
        if os.path.islink(folder):
            raise _leads_nowhere(folder, error) from error
        raise KaizenError(
            f"{prefix}{folder} does not exist; give the folder that holds {layout}"
        ) from error
    except NotADirectoryError as error:
        raise KaizenError(
            f"{prefix}{folder} is not a folder; give the folder that holds {layout}"
        ) from error
    except PermissionError as error:
        raise KaizenError(
            f"{prefix}{folder} cannot be listed ({error.strerror}); make it readable for you"
        ) from error
    except (OSError, ValueError) as error:
        raise KaizenError(
            f"{prefix}{str(folder)!r} cannot be listed: {error}; fix the path or the disk"
        ) from error
    for entry in found:
        try:
            entry.name.encode()
        except UnicodeEncodeError as error:
            raise KaizenError(
                f"{folder} holds the name {entry.name!r}, which is not UTF-8; rename it"
            ) from error
    return found


def is_folder(entry: os.DirEntry[str]) -> bool:
    """Whether it is a folder or a link to one; raises KaizenError where it is a link to nowhere,
    as to a disk that is not mounted.
    """
    try:
        if entry.is_symlink():
            return stat.S_ISDIR(os.stat(entry.path).st_mode)
        return entry.is_dir()
    except OSError as error:
        raise _leads_nowhere(Path(entry.path), error) from error


def _leads_nowhere(path: Path, error: OSError) -> KaizenError:
    try:
        link = f", a link to {os.readlink(path)}"
    except OSError:
        link = ""
    return KaizenError(
        f"{path} cannot be read ({error.strerror}{link}); mount the disk that it is on, or fix or "
        "remove it"
    )


def subfolders(folder: Path, layout: str) -> set[str]:
    """The names of a folder's subfolders but the hidden ones and those of network drives and
    desktops; raises KaizenError where one is a link to nowhere.
    """
    return {
        entry.name
        for entry in scan(folder, layout)
        if not kept_apart(entry.name) and is_folder(entry)
    }


def image_file(root: Path, path: str) -> File:
    """A file's size and time; raises KaizenError where it is absent or not a regular file."""
    try:
        status = os.stat(root / path)
    except OSError as error:
        raise KaizenError(
            f"{root / path} cannot be read ({error.strerror}); fix or remove it"
        ) from error
    if not stat.S_ISREG(status.st_mode):
        raise KaizenError(f"{root / path} is not a regular file; remove it")
    return File(path, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
