"""What a policy asks of the machine."""

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

from modelops.api.policy import Capacity, NoDataAction, OnRegression, Policy, Preset, StepSetting, Then
from modelops.rollouts.state import Room


class Undecided(StrEnum):
    """What to do when the time is over and nothing is proven."""

    PAUSE = "Pause"
    PROMOTE = "Promote"
    ROLL_BACK = "Rollback"


@dataclass(frozen=True, slots=True)
class Stage:
    """One station on the way: how much the candidate gets there, and what must pass before it goes on."""

    weight: int = 0
    """Percent of requests, 0..99."""
    mirror: int = 0
    """Percent of stable's requests that are copied to the candidate; its answers reach nobody."""
    is_matched: bool = False
    """Whether the requests that the policy matches go to the candidate."""
    dwell: timedelta = timedelta(minutes=2)
    """Earliest end, from the route's acceptance on."""
    pause: timedelta = timedelta(0)
    """How long the run pauses here."""
    waits: bool = False
    """Whether it waits for a person's Resume."""
    needs_approval: bool = False
    """Whether it waits for a person's Promote, which is an approval."""
    pods: int | None = None
    """Pods of the candidate; None: its share of requests decides."""
    is_preview: bool = False
    """Whether the candidate gets no request of users here, so that no evidence is asked for."""
    is_final: bool = False
    """Whether the run waits here at the end for a person's Promote or Abort."""


@dataclass(frozen=True, slots=True)
class Rules:
    """The policy in force, as far as the machine needs it."""

    steps: tuple[Stage, ...] = ()
    """Weights strictly increasing; then all requests."""
    prelude: Stage | None = None
    """Before the first step: mirrored requests, or a preview."""
    room: Room = Room.SURGE
    min_dwell: timedelta = timedelta(minutes=2)
    warmup: timedelta = timedelta(minutes=2)
    min_ready: timedelta = timedelta(seconds=10)
    progress_deadline: timedelta = timedelta(minutes=30)
    capacity_deadline: timedelta = timedelta(hours=24)
    """How long pods may wait for room on nodes."""
    restart_limit: int = 3
    bake: timedelta = timedelta(minutes=2)
    """How long the version that served before is kept after the promotion."""
    abort_scale_down_delay: timedelta = timedelta(seconds=30)
    accept_timeout: timedelta = timedelta(minutes=2)
    metrics_away_after: timedelta = timedelta(hours=1)
    rollback_window: int = 3
    is_analysed: bool = True
    """False: readiness alone moves the steps (preset None)."""
    rolls_back: bool = True
    """False: a regression holds instead (onRegression: Hold)."""
    pauses_without_data: bool = True
    """False: without requests it waits at its weight (noData: Continue)."""
    undecided: Undecided = Undecided.PAUSE
    min_requests: int = 500
    """Requests of the candidate that *undecided* needs to promote or roll back by itself."""
    approves_start: bool = False
    """Whether a person lets a run start."""
    approves_promotion: bool = False
    """Whether a person lets a run take everything."""
    is_suspended: bool = False

    def stage(self, index: int) -> Stage:
        """Return where step *index* is; before the first and past the last there is nothing special."""
        if index < 0 and self.prelude is not None:
            return self.prelude
        return self.steps[index] if 0 <= index < len(self.steps) else Stage(dwell=self.min_dwell)

    @property
    def first(self) -> int | None:
        """The index of the first station; None: the candidate takes over when it is ready."""
        if self.prelude is not None:
            return -1
        return 0 if self.steps else None

    def is_last(self, index: int) -> bool:
        """Return whether promotion comes after step *index*."""
        return index >= len(self.steps) - 1


NO_POLICY = Rules(warmup=timedelta(0), is_analysed=False)
"""No policy at all: the new version replaces the old one when it is ready."""


def rules(policy: Policy, *, by_pods: bool = False) -> Rules:
    """Return *policy* as the machine reads it; with *by_pods* numbers of pods are the shares of requests."""
    return Rules(
        steps=_steps(policy),
        prelude=_prelude(policy),
        room=Room.SPLIT if by_pods and policy.capacity is not Capacity.RECREATE else Room(policy.capacity),
        min_dwell=policy.min_dwell,
        warmup=policy.warmup,
        min_ready=policy.min_ready,
        progress_deadline=policy.progress_deadline,
        restart_limit=policy.restart_limit,
        bake=policy.switch.bake if policy.switch else policy.scale_down_delay,
        abort_scale_down_delay=policy.abort_scale_down_delay,
        accept_timeout=policy.accept_timeout,
        metrics_away_after=policy.metrics_unavailable_after,
        rollback_window=policy.rollback_window,
        is_analysed=policy.preset is not Preset.NONE,
        rolls_back=policy.on_regression is OnRegression.ROLLBACK,
        pauses_without_data=policy.no_data_action is NoDataAction.PAUSE,
        undecided=Undecided(policy.on_inconclusive),
        min_requests=policy.min_requests,
        approves_start=policy.approves_start,
        approves_promotion=policy.approves_promotion
        or bool(policy.switch and not policy.switch.auto_promote),
        is_suspended=policy.is_suspended,
    )


def _prelude(policy: Policy) -> Stage | None:
    if policy.switch is not None:
        return Stage(dwell=policy.min_dwell, pods=policy.switch.preview_replicas, is_preview=True)
    if policy.mirror is None:
        return None
    mirror = policy.mirror
    return Stage(mirror=mirror.percent, dwell=mirror.duration, is_final=mirror.then is Then.STOP)


def _steps(policy: Policy) -> tuple[Stage, ...]:
    if policy.matches:
        return (Stage(is_matched=True, dwell=policy.min_dwell),)
    return tuple(_step(policy.setting(weight)) for weight in policy.steps)


def _step(setting: StepSetting) -> Stage:
    return Stage(
        weight=setting.weight_percent,
        dwell=setting.min_dwell,
        pause=setting.pause or timedelta(0),
        waits=setting.waits_for_resume,
        needs_approval=setting.needs_approval,
        pods=setting.replicas,
    )
