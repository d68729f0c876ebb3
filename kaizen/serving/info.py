"""What /info says: the model that answers, where it is from as `kaizen explain` says it, and what
was not taken.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

from kaizen.errors import KaizenError
from kaizen.files import shortened
from kaizen.serving.collection import Collection
from kaizen.serving.limits import Limits
from kaizen.serving.served import Deployment, Served
from kaizen.store.layout import MANIFEST


class Informed:
    """The facts of /info; what `kaizen explain` says of a model is looked up once."""

    def __init__(
        self,
        deployment: Deployment,
        limits: Limits,
        following: str | None,
        collection: Collection | None,
    ) -> None:
        """Look nothing up yet."""
        self._deployment, self._limits = deployment, limits
        self._following, self._collection = following, collection
        self._explained: tuple[Served, dict[str, Any]] | None = None
        self._lock = threading.Lock()

    def __call__(self) -> dict[str, Any]:
        """All of it, as JSON."""
        served = self._deployment.current
        with self._lock:
            if self._explained is None or self._explained[0] is not served:
                self._explained = (served, explained(served.found.path))
            origin = self._explained[1]
        collected = None
        if self._collection is not None:
            collected = vars(self._collection.collected()) | {
                "folder": str(self._collection.folder)
            }
        return {
            **self._deployment.state(),
            "facts": served.model.facts(),
            **origin,
            "follows": self._following,
            "collected": collected,
            "limits": vars(self._limits),
        }


def explained(path: Path) -> dict[str, Any]:
    """What `kaizen explain` says of a published model, as ``explained``; where it lies in no
    project, or that has no record of it, ``explained`` is null and ``not_explained`` says why.
    """
    root = next((each for each in path.absolute().parents if (each / MANIFEST).is_file()), None)
    if root is None:
        return {"explained": None, "not_explained": f"{path} lies in no project"}
    try:
        # Neither is needed, nor perhaps installed, where a copied or exported model is served.
        from kaizen.provenance.explain import explain
        from kaizen.provenance.known import Known
        from kaizen.provenance.origin import Origin
        from kaizen.store.places import default_store
        from kaizen.store.store import Store

        known = Known.at(root, Store(default_store(root)))
        return {"explained": explain(str(path.absolute()), known, Origin(root, None), None)}
    except (KaizenError, OSError, ModuleNotFoundError) as error:
        return {"explained": None, "not_explained": shortened(str(error), 500)}
