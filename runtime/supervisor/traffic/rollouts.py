"""How the requests of each model move from release to release, by order and by probation. Runs in the supervisor."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from msgspec.structs import replace
from packaging.utils import canonicalize_name

from base.errors import Conflict, NotFound
from base.ipc.control import MirrorReport, OutcomeReport
from runtime.supervisor.releases.managed_release import ManagedRelease
from runtime.supervisor.rollout import planner, policy_changes
from runtime.supervisor.rollout import traffic_plan as courses
from runtime.supervisor.rollout import traffic_policy as words
from runtime.supervisor.rollout.policy_store import PolicyRecord, PolicyStore, TrafficShift
from runtime.supervisor.rollout.probation import Probation, ProbationRules
from runtime.supervisor.rollout.release import Release
from runtime.supervisor.rollout.release_state import ReleaseState
from runtime.supervisor.rollout.traffic_plan import TrafficPlan
from runtime.supervisor.rollout.traffic_policy import TrafficPolicy
from runtime.supervisor.status.state import MirrorStatus, ModelReport, ProbationReport, RolledBackRelease, TrafficShare, WarmStandby, now

log = logging.getLogger(__name__)

_KEPT_WITHOUT_FILE = 2
"""Of the releases that served last so many can be rolled back to when their file was replaced or is gone: the one that serves, and one."""


@dataclass
class _Progress:
    """One model since this supervisor began: its last shares by digest, why the next ones will be others, and what copies told."""

    shares: dict[str, int] = field(default_factory=dict)
    why: str = ""
    comparison: MirrorStatus | None = None


class Rollouts:
    """The roll-outs of all models.

    Args:
        kept: what outlives this supervisor.
        rules: of probation.
        keep_s: how long a release that served stays up.
        lives: all releases that are there.
        changed: called after every order and whatever was heard.
    """

    def __init__(
        self,
        kept: PolicyStore,
        rules: ProbationRules,
        keep_s: float,
        lives: Callable[[], Sequence[ManagedRelease]],
        changed: Callable[[], None],
    ) -> None:
        self._kept = kept
        self._rules = rules
        self._keep_s = keep_s
        self._lives = lives
        self._changed = changed
        self._progress: dict[str, _Progress] = {}

    @property
    def traffics(self) -> Mapping[str, TrafficPolicy]:
        """Model → what was said of it."""
        return {model: said.traffic for model, said in self._kept.models.items()}

    # ---- orders

    def traffic(self, model: str) -> TrafficPolicy:
        """What was said of a model.

        Raises:
            NotFound: there is no such model.
        """
        return self._said(self._name(model)).traffic

    def order(self, model: str, say: Callable[[TrafficPolicy], TrafficPolicy], why: str) -> TrafficPolicy:
        """Checks what `say` makes of what was said, keeps it, and has it done. Gives what is said now.

        Args:
            model: its name, in any spelling.
            say: one of the functions of `traffic`, with its other arguments bound.
            why: as the history will have it, such as "split by an operator".

        Raises:
            NotFound: there is no such model, or no such release that could serve.
            Conflict: what is there does not allow it; the error says what to do.
            Unavailable: it cannot be kept. In each case nothing was changed.
        """
        name = self._name(model)
        before = self._said(name)
        after = policy_changes.checked(before.traffic, say(before.traffic), self._family(name))
        return self._keep(name, before, after, why)

    def promote(self, model: str, version: str | None = None) -> TrafficPolicy:
        """A version or label serves all; without one the newest release, also if it was taken back. Raises as `order` does."""
        name = self._name(model)
        before = self._said(name)
        after = policy_changes.promoted(before.traffic, version, self._serviceable(name))
        return self._keep(name, before, after, "promoted")

    def rollback(self, model: str) -> TrafficPolicy:
        """What served before serves again, and what serves now does not until it is promoted. Raises as `order` does."""
        name = self._name(model)
        before, family = self._said(name), self._serviceable(name)
        serving = [release for release, _ in courses.course(family, before.traffic).shares]
        after = policy_changes.rolled_back(before.traffic, family, serving, f"it was rolled back at {now()}")
        return self._keep(name, before, after, "rolled back")

    def label(self, model: str, label: str, version: str | None) -> TrafficPolicy:
        """A label stands for a version, whose release is ready, or for nothing any more. Raises as `order` does."""
        if version is None:
            return self.order(model, lambda said: words.unlabelled(said, label), f"label {label} removed")
        return self.order(model, lambda said: words.labelled(said, label, version), f"label {label} moved to {version}")

    def _keep(self, name: str, before: PolicyRecord, after: TrafficPolicy, why: str) -> TrafficPolicy:
        self._kept.put(name, replace(before, traffic=after))
        log.info("%s: %s", name, why)
        self._expect(name, before.traffic, after, why)
        self._changed()
        return after

    def _expect(self, name: str, before: TrafficPolicy, after: TrafficPolicy, why: str) -> None:
        """An order is why requests move next if it has other releases serve; else it would be named for a move that others made."""
        family, progress = self._family(name), self._of(name)
        goal = dict(courses.goal(family, after))
        if {release.sha256: weight for release, weight in goal.items()} == progress.shares:
            progress.why = ""
        elif goal != dict(courses.goal(family, before)):
            progress.why = why

    def _name(self, model: str) -> str:
        name = canonicalize_name(model)
        if name not in self._kept.models and not any(live.release.is_model and live.release.name == name for live in self._lives()):
            there = sorted({live.release.name for live in self._lives() if live.release.is_model})
            raise NotFound(f"there is no model {model}; those in dist/ are {', '.join(there) or 'none'}")
        return name

    def _said(self, name: str) -> PolicyRecord:
        return self._kept.models.get(name, PolicyRecord())

    def _of(self, name: str) -> _Progress:
        return self._progress.setdefault(name, _Progress())

    def _family(self, name: str) -> list[Release]:
        families = planner.by_model([live.release for live in self._lives()])
        return next((family for family in families if family[0].name == name), [])

    def _serviceable(self, name: str) -> list[Release]:
        family = self._family(name)
        if not family:
            raise Conflict(f"no release of {name} could serve; `pexdock models` says why")
        return family

    # ---- what follows

    def judge(self) -> None:
        """Takes back what has failed in its probation."""
        for live in self._lives():
            if live.probation is not None and (verdict := live.probation.verdict):
                self._take_back(live, verdict)

    def follow(self, found: Mapping[str, TrafficPlan]) -> None:
        """The requests of models go these ways from now on: whoever comes in is watched, whoever goes stays up for a while."""
        for name, each in found.items():
            shares = {release.sha256: weight for release, weight in each.shares}
            if shares and shares != self._of(name).shares:
                self._flip(name, each, shares)

    def needs(self, release: Release) -> bool:
        """Whether it may be rolled back to, though its file holds it no more."""
        return release.is_model and release.sha256 in self._said(release.name).traffic.served[-_KEPT_WITHOUT_FILE:]

    def heard(self, word: OutcomeReport | MirrorReport) -> None:
        """What a front door has counted."""
        live = next((live for live in self._lives() if live.release.sha256 == word.release_id), None)
        if live is None:
            return  # it is gone since
        if isinstance(word, MirrorReport):
            progress = self._of(live.release.name)
            progress.comparison = MirrorStatus.of(live.release.version, word).plus(progress.comparison)
        elif live.probation is not None:
            live.probation.ended(word.answered, word.failed)
        self._changed()

    def _take_back(self, live: ManagedRelease, reason: str) -> None:
        name = live.release.name
        said, family = self._said(name), self._family(name)
        serving = [release for release, _ in courses.course(family, said.traffic).shares]
        live.unwatch()
        try:
            if len(serving) > 1:
                after = words.taken_back(said.traffic, live.release.sha256, reason)
            else:
                after = policy_changes.rolled_back(said.traffic, family, [live.release], reason)
        except Conflict:
            live.remark = f"{reason}; it serves on, since nothing served before it"
            log.error("%s: %s", live.release.title, live.remark)  # noqa: TRY400 - foreseen
            return
        log.error("%s: taken back: %s", live.release.title, reason)
        self._of(name).why = f"{live.release.version} was taken back: {reason}"
        self._kept.note(name, replace(said, traffic=after))

    def _flip(self, name: str, found: TrafficPlan, shares: dict[str, int]) -> None:
        progress, said = self._of(name), self._said(name)
        before, progress.shares = progress.shares, shares
        what, why = _described(found), progress.why or _reason(found, before, said)
        progress.why = ""
        if len(before) == 1 and not before.keys() & said.traffic.taken_back.keys():
            (alone,) = before
            said = replace(said, traffic=policy_changes.relieved(said.traffic, alone))
        if before or not said.history or said.history[-1].what != what:
            said = said.moved(TrafficShift(now(), what, why))
            log.info("%s: requests go to %s: %s", name, what, why)
        self._keep_up(name, before, shares)
        for live in self._lives():
            if live.release.sha256 in shares.keys() - before.keys():
                live.let_go()
                if said.traffic.served or len(shares) > 1:
                    self._watch(live, proven=live.release.sha256 in said.traffic.served)
        self._kept.note(name, said)
        self._note_proof(name)

    def _keep_up(self, name: str, before: dict[str, int], shares: dict[str, int]) -> None:
        """Of those that served before, the one that served most stays up; it alone."""
        taken_back = self._said(name).traffic.taken_back
        left = [sha256 for sha256 in sorted(before, key=lambda each: -before[each]) if sha256 not in shares and sha256 not in taken_back]
        if not left:
            return
        keep_s = max(self._keep_s, self._rules.time_s)
        for live in self._lives():
            if live.release.sha256 == left[0] and live.release.state is ReleaseState.RUNNING and keep_s:
                live.keep(keep_s, _in(keep_s))
            elif live.release.name == name:
                live.let_go()

    def _watch(self, live: ManagedRelease, *, proven: bool) -> None:
        if self._rules.time_s and not (proven or live.proven):
            live.watch(Probation(self._rules, _in(self._rules.time_s)), self._rules.time_s, lambda: self._note_proof(live.release.name))

    def _note_proof(self, name: str) -> None:
        """A release that serves alone and is not watched any more counts as one that served."""
        shares, said = self._of(name).shares, self._said(name)
        for live in self._lives():
            sha256 = live.release.sha256
            if list(shares) == [sha256] and live.probation is None and said.traffic.served[-1:] != [sha256]:
                self._kept.note(name, replace(said, traffic=policy_changes.relieved(said.traffic, sha256)))

    # ---- what people read

    def reports(self) -> list[ModelReport]:
        """Each model, by name."""
        names = {live.release.name for live in self._lives() if live.release.is_model} | self._kept.models.keys()
        return [self._report(name) for name in sorted(names)]

    def _report(self, name: str) -> ModelReport:
        said, family = self._said(name), self._family(name)
        traffic = said.traffic
        found = courses.course(family, traffic)
        lives = [live for live in self._lives() if live.release.is_model and live.release.name == name]
        shown = {live.release.sha256: live.release.version for live in lives}
        watched = [live for live in lives if live.probation is not None]
        return ModelReport(
            name=name,
            serves=_shares(found.shares),
            wanted=_shares(courses.goal(family, traffic)),
            pin=traffic.pin,
            split=traffic.split.weights if traffic.split else {},
            by=traffic.split.by if traffic.split else "",
            labels=traffic.labels,
            shadow=traffic.shadow.to if traffic.shadow else "",
            shadow_percent=traffic.shadow.percent if traffic.shadow else 0.0,
            comparison=self._of(name).comparison if traffic.shadow else None,
            previous=next(
                (WarmStandby(live.release.version, live.release.sha256, live.kept_until) for live in lives if live.release.warm_standby),
                None,
            ),
            probation=[ProbationReport.of(live.release.version, live.probation) for live in watched if live.probation is not None],
            taken_back=[RolledBackRelease(shown[sha256], sha256, why) for sha256, why in traffic.taken_back.items() if sha256 in shown],
            remarks=courses.unmet(family, traffic) + [live.remark for live in lives if live.remark] + _substitution(found, lives),
            history=said.history,
        )


def _shares(weights: Sequence[tuple[Release, int]]) -> list[TrafficShare]:
    total = sum(weight for _, weight in weights)
    return [TrafficShare(release.version, release.sha256, 100 * weight / total) for release, weight in weights]


def _substitution(found: TrafficPlan, lives: Sequence[ManagedRelease]) -> list[str]:
    stand_in = found.stand_in(live.release for live in lives)
    if stand_in is None or any(live.up for live in lives if live.release is found.shares[0][0]):
        return []
    return [f"{stand_in.version} answers while no worker of {found.shares[0][0].version} is there"]


def _described(found: TrafficPlan) -> str:
    """`0.2.0`, or `0.1.0 90 %, 0.2.0 10 %`; a digest tells apart two contents of one version only in the history's reason."""
    total = sum(weight for _, weight in found.shares)
    if len(found.shares) == 1:
        release = found.shares[0][0]
        return f"{release.version} ({release.sha256[:12]})"
    return ", ".join(f"{release.version} {100 * weight / total:g} %" for release, weight in found.shares)


def _reason(found: TrafficPlan, before: Mapping[str, int], said: PolicyRecord) -> str:
    """Why requests moved without an order."""
    if not before:
        return "Pexdock was started" if said.history else "it is the first"
    if len(found.shares) > 1 or len(before) > 1:
        return "one of the releases that share them came or went"
    return "it is the newest that is ready"


def _in(seconds: float) -> str:
    return (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat(timespec="seconds")
