"""Run the soak: ``python -m e2e.soak --seconds 600 --seed 1``; the last line says how it went."""

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from e2e.cluster.native import Native
from e2e.cluster.progress import CommandFailed
from e2e.load.load import Load, Plan
from e2e.load.report import MOST_FAULTS, Report
from e2e.quickstart.platform import SYSTEM, Platform
from e2e.quickstart.story import HOST, Story
from e2e.soak.breakage import GATEWAYS, Breakage
from e2e.soak.people import SERVICE, People
from e2e.soak.schedule import schedule
from e2e.soak.verdict import OUR_MARK, Account, Found, Lost, Passed, attribute, read_passed, stuck

NAME = "soak"
PROGRESS_S = 10.0
QUIET_S = 300.0
"""How long everything may take to come to rest after the last fault."""
OURS = ("models", "modelversions", "modelapprovals", "rolloutpolicies", "modelnodes")
CHILDREN = "deployments,services,poddisruptionbudgets,networkpolicies,persistentvolumeclaims,jobs,httproutes"


def main(argv: Sequence[str] | None = None) -> int:
    """Return 0 when nothing was stuck and no request was lost that no killed pod had."""
    parser = argparse.ArgumentParser(prog="python -m e2e.soak", description=__doc__)
    parser.add_argument("--seconds", type=float, default=600.0, help="how long faults come (default 600)")
    parser.add_argument("--seed", type=int, default=1, help="draws the faults (default 1)")
    parser.add_argument("--keep", action="store_true", help="leave the cluster running")
    args = parser.parse_args(argv)
    cluster = Native(NAME)
    cluster.down()
    try:
        return Soak(cluster, args.seed, args.seconds).run()
    finally:
        if not args.keep:
            cluster.down()


class Soak:
    """One run on one cluster."""

    def __init__(self, cluster: Native, seed: int, seconds: float) -> None:
        self._cluster = cluster
        self._seed, self._seconds = seed, seconds
        self._platform = Platform(cluster)
        self._breakage = Breakage(cluster)
        self._people = People(self._platform)
        self._did: Counter[str] = Counter()
        self._missed: list[str] = []
        self._began = time.monotonic()
        self._told_at = 0.0

    def run(self) -> int:
        """Set up, break, let it rest, and judge."""
        self._set_up()
        host, port = self._cluster.gateway_address()
        load = Load(
            Plan(
                url=f"http://{host}:{port}",
                model="chat",
                host_header=HOST,
                rate=5,
                streams=6,
                spare_streams=2,
                stream_seconds=12,
                most_tokens=450,
            )
        )
        started = time.time()
        load.start()
        load.wait_until_ramped(60)
        self._began = time.monotonic()
        self._people.start()
        self._break(load)
        say(f"[{self._now():4.0f} s] the last fault is over; everything may come to rest")
        self._people.rest()
        rested = self._people.settle(QUIET_S)
        took = self._now() - self._seconds
        report = load.stop()
        left = self._wait_until_unstuck(20)
        if not rested:
            left = ("the last rollout: did not end", *left)
        return self._tell(report, self._account(report, started), left, took)

    def _set_up(self) -> None:
        cluster, platform = self._cluster, self._platform
        cluster.up(background=True)
        platform.build_images()
        cluster.gateway_address()
        platform.start_hub()
        platform.install_chart()
        story = Story(platform)
        story.open_namespace()
        story.register()
        story.roll_out_second()
        for version in ("chat-1", "chat-2"):
            platform.wait(
                f"{version} pinned",
                lambda version=version: bool(  # type: ignore[misc]
                    (platform.get("modelversions.modelops.dev", version).get("status") or {}).get(
                        "artifactDigest"
                    )
                ),
                seconds=120,
            )
            story.approve(version)
        self._people.want(self._people.served)
        story.wait_ready()
        story.wait_phase("Stable", seconds=120)

    # --- breaking ----------------------------------------------------------------------------------

    def _break(self, load: Load) -> None:
        for planned in schedule(self._seed, self._seconds):
            while self._now() < planned.at:
                time.sleep(min(0.5, max(0.0, planned.at - self._now())))
                self._progress(load)
            try:
                hit = self._breakage.do(planned)
            except (CommandFailed, LookupError) as error:
                hit = ""
                self._missed.append(f"{planned.fault}: {error}"[:300])
            self._did[planned.fault if hit else f"{planned.fault} (nobody to hit)"] += 1
            say(f"[{self._now():4.0f} s]   {planned.fault}: {hit or 'nobody to hit'}")
            self._progress(load)
        while self._now() < self._seconds:
            time.sleep(0.5)
            self._progress(load)

    def _now(self) -> float:
        return time.monotonic() - self._began

    def _progress(self, load: Load) -> None:
        if self._now() - self._told_at < PROGRESS_S:
            return
        self._told_at = self._now()
        report = load.report
        try:
            status = self._platform.service().get("status") or {}
            rollout = status.get("rollout") or {}
            share = (rollout.get("traffic") or {}).get("observed") or 0
            stands = f"{(status.get('stable') or {}).get('version')} serves, {rollout.get('phase')} {share} %"
        except CommandFailed:
            stands = "the API server does not answer"
        say(
            f"[{self._now():4.0f} s] {sum(self._did.values())} faults; {stands}; "
            f"{report.short_ok + report.stream_ok} answered, {report.lost} lost"
        )

    # --- judging -----------------------------------------------------------------------------------

    def _account(self, report: Report, started: float) -> Account:
        lost = [
            Lost(
                started + fault.began,
                started + fault.began + fault.after,
                f"{fault.what}, status {fault.status}: {fault.error} {fault.body}".strip(),
            )
            for fault in report.faults
        ]
        return attribute(lost, self._passed(), self._breakage.kills)

    def _passed(self) -> list[Passed]:
        """Return what the gateway's proxies logged."""
        found = []
        for line in self._cluster.pod_logs(GATEWAYS, "envoy"):
            if line.startswith("{"):
                try:
                    entry = read_passed(json.loads(line))
                except ValueError:
                    continue
                if entry is not None:
                    found.append(entry)
        return found

    def _wait_until_unstuck(self, seconds: float) -> tuple[str, ...]:
        """Return what is stuck after so many seconds; what only takes a moment is not."""
        deadline = time.monotonic() + seconds
        while True:
            left = stuck(self._found())
            if not left or time.monotonic() > deadline:
                return left
            time.sleep(2)

    def _found(self) -> Found:
        platform = self._platform
        mark = "=".join(OUR_MARK)
        pods = [*platform.list("pods"), *platform.list("pods", namespace=SYSTEM)]
        operators = platform.list("pods", "-l", "app.kubernetes.io/component=operator", namespace=SYSTEM)
        return Found(
            services=platform.list(SERVICE, namespace=None),
            ours=[o for kind in OURS for o in platform.list(f"{kind}.modelops.dev", namespace=None)],
            children=platform.list(CHILDREN, "-l", mark, namespace=None),
            volumes=platform.list("persistentvolumes", "-l", mark, namespace=None),
            pods=pods,
            lease=platform.get("lease", "modelops", SYSTEM),
            leaders=tuple(pod["metadata"]["name"] for pod in operators),
            now=datetime.now(UTC),
        )

    def _tell(self, report: Report, account: Account, left: tuple[str, ...], took: float) -> int:
        unexplained = len(account.unexplained) + max(0, report.lost - MOST_FAULTS)
        summary: dict[str, Any] = {
            "seed": self._seed,
            "seconds": self._seconds,
            "quiet_seconds": round(took, 1),
            "faults": dict(self._did),
            "faults_not_done": self._missed,
            "people": dict(self._people.did),
            "requests": {
                "answered": report.short_ok + report.stream_ok,
                "lost": report.lost,
                "held_by_killed_pods": dict(account.held),
                "sent_to_killed_pods": dict(account.late),
                "unexplained": unexplained,
            },
            "kills": [
                {"pod": kill.pod, "at": f"{datetime.fromtimestamp(kill.at, UTC):%H:%M:%S.%f}"}
                for kill in self._breakage.kills
            ],
            "unexplained": [
                {"at": f"{datetime.fromtimestamp(one.began, UTC):%H:%M:%S.%f}", "what": one.what}
                for one in account.unexplained[:20]
            ],
            "stuck": list(left),
            "restarts_of_the_operator": self._restarts(),
        }
        say(json.dumps(summary, indent=1))
        is_well = not left and not unexplained
        held, late = sum(account.held.values()), sum(account.late.values())
        say(
            f"soak: {'passed' if is_well else 'FAILED'}: {sum(self._did.values())} faults in "
            f"{self._seconds:.0f} s, {len(left)} things stuck; {report.short_ok + report.stream_ok} requests "
            f"answered, {report.lost} lost: {held} held by killed pods, {late} sent to them before all knew, "
            f"{unexplained} unexplained"
        )
        return 0 if is_well else 1

    def _restarts(self) -> int:
        pods = self._platform.list("pods", "-l", "app.kubernetes.io/component=operator", namespace=SYSTEM)
        return sum(c["restartCount"] for pod in pods for c in pod["status"].get("containerStatuses") or ())


def say(text: str) -> None:
    """Print at once."""
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())
