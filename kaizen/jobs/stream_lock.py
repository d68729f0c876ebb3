"""One change of the stream at a time: what two commands write into data/stream.yaml at once, one of
them would lose.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from kaizen.data.arrivals import STREAM_FILE
from kaizen.files import tell
from kaizen.store.locks import hold


@contextlib.contextmanager
def changing_stream(root: Path) -> Iterator[None]:
    """Read and write data/stream.yaml of the checkout ``root`` within this; waits, and says so,
    while another process does. Raises KaizenError where the lock cannot be written.
    """
    path = root / ".kaizen" / "locks" / "stream"
    with hold(path, tell, title=STREAM_FILE, doing=f"changing {STREAM_FILE}"):
        yield
