"""The two ways a command ends badly, each with one message and no traceback; and names in one."""

from __future__ import annotations

from collections.abc import Sequence


class KaizenError(Exception):
    """Bad input: the message names the file or parameter, what is wrong and how to fix it.

    The command line prints it and exits with ``exit_code`` (2).
    """

    exit_code = 2


class NodeFailed(KaizenError):
    """A node could not be finished though its input was well-formed (a NaN loss, say); exit code
    1.
    """

    exit_code = 1


class Interrupted(KaizenError):
    """SIGTERM or SIGINT arrived; the state is saved and the same command resumes it; exit code
    143.
    """

    exit_code = 143


class Superseded(Interrupted):
    """Another process has taken over the node that this one was making; nothing more is written;
    exit code 143.
    """


def names_text(names: Sequence[str]) -> str:
    """Names for a message, at most ten of them."""
    shown = ", ".join(repr(name) for name in names[:10])
    return f"{shown} and {len(names) - 10} more" if len(names) > 10 else shown
