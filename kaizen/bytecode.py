"""Bytecode that is certainly the source's.

Python takes a .pyc for current where the source has the recorded size and time, in whole seconds.
`cp -p`, tar and rsync can put another source there with both, and the node's key, which hashes the
source, would then name what other code made. So this package's .pyc files hold the hash of their
source (PEP 552), and each is compared with the source when it is loaded: a hash of some kilobytes a
module, not a compilation.
"""

from __future__ import annotations

import importlib.machinery
import importlib.util
import sys

# In the place of typing's: whoever imports the package pays for what is imported here.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import ModuleType

    from typing_extensions import Buffer

_CHECKED_HASH = (3).to_bytes(4, "little")  # PEP 552: bit 0 by hash, bit 1 to be checked
_HEADER = 16


class HashedLoader(importlib.machinery.SourceFileLoader):
    """Loads a module from its source, or from a .pyc that has the source's hash.

    ``source`` is what was loaded.
    """

    source: bytes = b""

    def get_data(self, path: str) -> bytes:
        """Read a file; raises OSError, after which Python compiles, for a .pyc of other source."""
        data = super().get_data(path)
        if path == self.path:
            self.source = data
            return data
        self.source = super().get_data(self.path)
        if data[4:_HEADER] != _CHECKED_HASH + importlib.util.source_hash(self.source):
            raise OSError(f"{path} is not the bytecode of {self.path}")
        return data

    def set_data(self, path: str, data: Buffer, *, _mode: int = 0o666) -> None:
        """Write a .pyc, with the hash in the place of time and size."""
        old = bytes(data)
        header = old[:4] + _CHECKED_HASH + importlib.util.source_hash(self.source)
        super().set_data(path, header + old[_HEADER:], _mode=_mode)


class _Finder:
    """Finds the package's modules where Python would, and gives them that loader."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if not fullname.startswith("kaizen."):
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        if spec is not None and type(spec.loader) is importlib.machinery.SourceFileLoader:
            spec.loader = HashedLoader(fullname, spec.loader.path)
        return spec


def load_by_hash() -> None:
    """Load all further modules of this package in this way."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())
