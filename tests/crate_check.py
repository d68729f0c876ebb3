"""What roc-validator says of an RO-Crate, without a network. Runs under another Python than the
tests, that of `make setup-checks`.

    python crate_check.py CRATE CONTEXT

CONTEXT is a file with the JSON-LD context of RO-Crate, which the validator would fetch. Prints a
list of [severity, check, message], and exits with 0 whatever it holds.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import requests
import requests.adapters
from rocrate_validator import models, services

ADDRESS = "https://w3id.org/ro/crate/1.1/context"


def main(crate: str, context: str) -> None:
    """Print what is wrong with ``crate``."""
    with open(context, encoding="utf-8") as file:
        answer = json.dumps({"@context": json.load(file)["@context"]}).encode()

    def send(self: Any, request: Any, **options: Any) -> requests.Response:
        if request.url != ADDRESS:
            raise requests.ConnectionError(f"no network in tests: {request.url}")
        response = requests.Response()
        response.status_code, response.url, response.request = 200, request.url, request
        response.headers["Content-Type"] = "application/ld+json"
        response._content = answer
        return response

    requests.adapters.HTTPAdapter.send = send  # type: ignore[assignment,method-assign]
    settings = services.ValidationSettings(
        rocrate_uri=crate,
        profile_identifier="ro-crate-1.1",
        requirement_severity=models.Severity.RECOMMENDED,
        skip_availability_check=True,
        no_cache=True,
    )
    issues = services.validate(settings).get_issues()
    print(json.dumps([[i.severity.name, i.check.identifier, i.message] for i in issues]))


if __name__ == "__main__":
    main(*sys.argv[1:])
