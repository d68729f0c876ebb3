"""Where numba's machine code is kept between processes. Imports numba.

As numba keeps it, but that nothing in those files or on that disk stops a job, and that code of
another source is never taken. numba writes the name of a file before the file: whoever reads
between, or after a kill there, would find what an older source left under that name.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
from pathlib import Path
from typing import Any

import numpy as np
from numba.core.caching import FunctionCache, IndexDataCacheFile

from kaizen.compute import compiled
from kaizen.compute.cpu import INSTRUCTIONS


class KeptCode(FunctionCache):
    """The machine code of one function, in files whose names have the hash of all that it was made
    from: its file, the numbers that this file has from others, how it was compiled, and the
    variables that tell numba so.
    """

    def __init__(self, function: Any) -> None:
        """Find the folder; raises RuntimeError where there is none to write to."""
        super().__init__(function)  # type: ignore[no-untyped-call]
        source: bytes = self._impl.locator.get_source_stamp()
        numbers = {
            name: repr(value)
            for name, value in function.__globals__.items()
            if isinstance(value, int | float | np.generic)
        }
        variables = {name: os.environ.get(name) for name in INSTRUCTIONS}
        made_from = f"{sorted(numbers.items())} {sorted(variables.items())}".encode()
        source = hashlib.sha256(source + _how_compiled() + made_from).digest()
        name = f"{self._impl.filename_base}-{source.hex()[:16]}"
        self._cache_file = IndexDataCacheFile(self._cache_path, name, source)  # type: ignore[no-untyped-call]

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """The code for these types, or None, as for files that are damaged: these are begun
        anew.
        """
        try:
            return super().load_overload(sig, target_context)  # type: ignore[no-untyped-call]
        except Exception:  # whatever bytes can do to who reads them
            with contextlib.suppress(OSError):
                self.flush()  # type: ignore[no-untyped-call]
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        """Keep the code, unless the disk is full."""
        with contextlib.suppress(OSError):
            super().save_overload(sig, data)  # type: ignore[no-untyped-call]


@functools.cache
def _how_compiled() -> bytes:
    """The source of what has functions compiled, and of what they inline."""
    return Path(compiled.__file__).read_bytes()
