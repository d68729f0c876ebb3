"""`python -m kaizen`."""

import sys

# What follows cannot be imported by an older Python, whose traceback would not say why.
if sys.version_info < (3, 11):  # noqa: UP036
    sys.exit(
        f"kaizen: Python 3.11 or newer is needed, and {sys.executable} is "
        f"{sys.version_info[0]}.{sys.version_info[1]}; run it by a newer one (`make setup "
        "PYTHON=python3.12` in the checkout makes an environment, .venv)"
    )

import os

from kaizen.jobs.ask import ask

code = ask(sys.argv[1:], os.environ)
if code is None:
    from kaizen.cli import main

    code = main()
sys.exit(code)
