"""The traffic of all models: their stored policies, and their progress since this supervisor started."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from packaging.utils import canonicalize_name

from base.errors import Conflict, NotFound
from runtime.supervisor.releases.release_set import ReleaseSet
from runtime.supervisor.rollout.policy_record import PolicyRecord
from runtime.supervisor.rollout.policy_store import PolicyStore
from runtime.supervisor.rollout.release import Release
from runtime.supervisor.rollout.traffic_policy import TrafficPolicy
from runtime.supervisor.status.state import MirrorStatus


@dataclass
class TrafficProgress:
    """The traffic of one model since this supervisor started.

    Attributes:
        shares: sha256 → weight of the releases that serve.
        why: Reason of the next shift, if an order or a rollback caused it.
        mirror: Comparison of mirrored requests.
    """

    shares: dict[str, int] = field(default_factory=dict)
    why: str = ""
    mirror: MirrorStatus | None = None


class TrafficRecords:
    """The policies, histories and progress of all models, and their releases.

    Args:
        store: The persistent file.
        releases: All releases.
    """

    def __init__(self, store: PolicyStore, releases: ReleaseSet) -> None:
        self._progress: dict[str, TrafficProgress] = {}
        self.store = store
        self.releases = releases

    @property
    def policies(self) -> Mapping[str, TrafficPolicy]:
        """Returns model → its policy, for models that have one."""
        return {model: record.traffic for model, record in self.store.records.items()}

    @property
    def model_names(self) -> list[str]:
        """Returns the names of all models with a release or a policy, sorted."""
        return sorted(self.releases.model_names | self.store.records.keys())

    def record(self, name: str) -> PolicyRecord:
        """Returns the record of a model; an empty one if it has none."""
        return self.store.records.get(name, PolicyRecord())

    def progress(self, name: str) -> TrafficProgress:
        """Returns the progress of a model."""
        return self._progress.setdefault(name, TrafficProgress())

    def require_model(self, model: str) -> str:
        """Returns the normalized name of a model.

        Raises:
            NotFound: There is no such model.
        """
        name = canonicalize_name(model)
        known = self.releases.model_names
        if name not in self.store.records and name not in known:
            raise NotFound(f"there is no model {model}; the models in dist/ are {', '.join(sorted(known)) or 'none'}")
        return name

    def require_releases(self, name: str) -> list[Release]:
        """Returns the verified releases of a model, with the highest rank first.

        Raises:
            Conflict: There is none.
        """
        releases = self.releases.verified_of_model(name)
        if not releases:
            raise Conflict(f"no release of {name} can serve; `pexdock models` shows the reasons")
        return releases
