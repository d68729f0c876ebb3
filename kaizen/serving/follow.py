"""The next step's model beside the present one: loaded, checked, and only then swapped in. Whatever
goes wrong on the way, the present one goes on.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

from kaizen.data.names import CHECKPOINT
from kaizen.errors import KaizenError
from kaizen.files import shortened, tell
from kaizen.inference.answering import Answering
from kaizen.serving.check import Rules, check
from kaizen.serving.published import Found, Signature, content, find_steps, signature
from kaizen.serving.served import Deployment, Served
from kaizen.store.records import RECORD

Load = Callable[[Path], Answering]
# A fault of the machine (no memory, a disk that fails) may pass without any file changing.
_AGAIN_AFTER = 60.0
_LESS_URGENT = 10
_PATIENCE = 5.0


class Follower:
    """Looks every ``poll`` seconds for a step newer than the one that answers, in ``folder``.

    A step is tried when its files have not changed between two looks. One that was refused is tried
    again when they do: a folder may be copied slowly.
    """

    def __init__(
        self,
        deployment: Deployment,
        folder: Path,
        load: Load,
        rules: Rules,
        batch_size: int,
        poll: float,
    ) -> None:
        """Look at nothing yet; see `start`."""
        self._deployment, self._folder, self._load = deployment, folder, load
        self._rules, self._batch_size, self._poll = rules, batch_size, poll
        self._seen: dict[Path, Signature] = {}
        self._refused: dict[Path, tuple[Signature, float]] = {}
        # What was found to be a model that answers, or was rolled back from, already, though its
        # files are other ones.
        self._same: dict[Path, Found] = {}
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._work, name="follow", daemon=True)

    @property
    def following(self) -> str:
        """The folder that is looked at."""
        return str(self._folder)

    def start(self) -> None:
        """Look from now on, in a thread of its own."""
        self._thread.start()

    def stop(self) -> None:
        """Look no more."""
        self._end.set()

    def ended(self) -> bool:
        """Wait a few seconds for the thread, and say whether it has ended."""
        self._thread.join(_PATIENCE)
        return not self._thread.is_alive()

    def _work(self) -> None:
        # On Linux this is the thread's own; those that answer requests go first.
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _LESS_URGENT)
        while not self._end.wait(self._poll):
            # What vanishes while it is looked at is looked at again.
            with contextlib.suppress(OSError):
                self.look()

    def look(self) -> None:
        """Try the newest step that may be taken, if there is one."""
        steps = find_steps(self._folder)
        settled = [step for step in steps if self._seen.get(step.path) == step.signature]
        self._seen = {step.path: step.signature for step in steps}
        for step in reversed(settled):
            if self._end.is_set() or not self._is_newer(step):
                return
            if not self._was_refused(step) and self._try(step):
                return

    def _is_newer(self, step: Found) -> bool:
        """Whether a step comes after the one that answers, or is that one made again."""
        present = self._deployment.current.found
        number = -1 if present.step is None else present.step
        if step.step is None or step.step < number:
            return False
        if step.step > number:
            return True
        return step.path == present.path and not self._is(step, self._deployment.current)

    def _is(self, step: Found, served: Served) -> bool:
        """Whether a step's files hold the model that is, or was, served from there."""
        if step.path != served.found.path:
            return False
        if served.found.signature != step.signature and self._same.get(step.path) != step:
            if content(step.path) != served.content:
                return False
            self._same[step.path] = step
        return True

    def _was_refused(self, step: Found) -> bool:
        if any(self._is(step, served) for served in self._deployment.left):
            return True
        files, until = self._refused.get(step.path, ((), 0.0))
        return files == step.signature and time.monotonic() < until

    def _try(self, step: Found) -> bool:
        """Take a step; False where it is refused."""
        old = self._deployment.current
        again = float("inf")
        try:
            self._need_record(step, old.found)
            digest = content(step.path)
            model = self._load(step.path)
            facts = check(model, old, self._rules, self._batch_size)
            if signature(step.path) != step.signature:
                raise KaizenError("its files changed while it was loaded")
        except KaizenError as error:
            why = str(error)
        except Exception as error:  # whatever it is, the present model goes on
            why = f"{type(error).__name__}: {error}"
            again = time.monotonic() + _AGAIN_AFTER
        else:
            return self._take(Served(model, step, digest, facts), old)
        why = shortened(" ".join(why.split()), 500)
        # Not every minute the same line.
        if self._refused.get(step.path, ((), 0.0))[0] != step.signature:
            self._deployment.refuse(step.name, why)
            tell(f"{step.name} is not taken, {old.found.name} goes on: {why}")
        self._refused[step.path] = (step.signature, again)
        return False

    def _take(self, new: Served, old: Served) -> bool:
        # Somebody may have rolled back meanwhile: then it is compared with what answers now.
        if not self._deployment.swap(new, old):
            return False
        self._refused.pop(new.found.path, None)
        facts = new.check
        measured = (
            f"right in {100 * facts['after']:.1f} % of {facts['images']} held-out images of its "
            f"classes, before {100 * facts['before']:.1f} %"
            if facts.get("images")
            else "no held-out images were found to check it on"
        )
        tell(f"{new.found.name} answers now in the place of {old.found.name}: {measured}")
        return True

    @staticmethod
    def _need_record(step: Found, present: Found) -> None:
        """Raise KaizenError where a folder lacks what the present one has: it is half copied."""
        for name in (RECORD, CHECKPOINT):
            if (present.path / name).is_file() and not (step.path / name).is_file():
                raise KaizenError(f"{step.path / name} is not there, or not yet")
