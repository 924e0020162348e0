"""Tell the quickstart story on a cluster that is left running: ``python -m e2e.demo up|down``."""

import argparse
import contextlib
import sys
import time
from collections.abc import Iterator

import e2e.cluster
from e2e.cluster.progress import CommandFailed, hush
from e2e.quickstart.platform import AUTHOR, NAMESPACE, SYSTEM, Platform
from e2e.quickstart.story import HOST, Story

NAME = "demo"
START = time.monotonic()


def main(argv: list[str] | None = None) -> int:
    """Return 0 when the story went as told."""
    parser = argparse.ArgumentParser(prog="python -m e2e.demo", description=__doc__)
    parser.add_argument("what", choices=["up", "down"])
    parser.add_argument("--provider", default="auto", choices=e2e.cluster.PROVIDERS)
    args = parser.parse_args(argv)
    cluster = e2e.cluster.open(NAME, args.provider)
    hush()
    if args.what == "down":
        with step("Remove the demo cluster and all that it left"):
            cluster.down()
        return 0
    try:
        tell(Platform(cluster))
    except (CommandFailed, TimeoutError, RuntimeError) as error:
        print(
            f"\ndemo: stopped: {error}\nLook around with `make demo` again, or remove it: make demo-down",
            file=sys.stderr,
        )
        return 1
    return 0


def tell(platform: Platform) -> None:
    """Set up, then tell the story."""
    cluster = platform.cluster
    chapter("Set up")
    with step("Cluster: two nodes, 4 x H100 and 8 x L4 (pretended), Prometheus, Envoy Gateway"):
        cluster.up(say=quiet, background=True)
    with step("Build the operator's image from operator/Dockerfile and push it"):
        platform.build_images()
    with step("Wait for the Gateway"):
        cluster.gateway_address()
    with step("Start a model hub with a private repository"):
        platform.start_hub()
    with step("helm install modelops charts/modelops"):
        platform.install_chart()
    story = Story(platform)

    chapter("Register: a private model version becomes its bytes")
    with step("The administrator makes namespace quickstart, environment prod"):
        story.open_namespace()
    with step("The author applies config/samples/quickstart"):
        story.register()
    with step("The version is pinned to a commit, fetched to a node, every byte hashed"):
        story.wait_verified("chat-1")
    show(platform, "get", "modelversions.modelops.dev", "-n", NAMESPACE, "-o", "wide")
    say("No pod starts, and the service says why:")
    say(f"  {platform.condition('inferenceservices.modelops.dev', 'chat', 'ModelAdmitted')['message']}")

    chapter("Approve: somebody else, in one command")
    with step("kubectl modelops approve chat-1"):
        said = story.approve("chat-1")
    say(indent(said))

    chapter("Serve: placed where it fits, and explained")
    with step("kubectl wait --for=condition=Ready inferenceservice/chat"):
        story.wait_ready()
    say(indent(platform.modelops(AUTHOR, "explain", "chat", "-n", NAMESPACE)))
    with step("Ask a question through the Gateway"):
        story.ask(tokens=8, stream=True)

    chapter("Roll out: chat-2 under users, judged against chat-1")
    with step("Users: 20 requests a second, and 20 streams of ten seconds always open"):
        load = story.load().start()
        load.wait_until_ramped(120)
    with step("A minute of them, which the judge compares with"):
        time.sleep(60)
    with step("The author registers chat-2; it is fetched, approved and wanted"):
        story.roll_out_second()
        story.serve("chat-2")
        story.wait_verified("chat-2")
        story.approve("chat-2")
    follow(platform, story, ("Stable",), served="chat-2", seconds=1200)
    report = load.stop()
    say(f"  users lost: {report.lost} (requests failed {report.short_failed + report.stream_failed}, "
        f"streams cut {report.stream_cut})")  # fmt: skip

    chapter("Roll back: chat-3 answers, but fails in a share of requests")
    with step("chat-3 is registered, approved and wanted"):
        story.roll_out_third()
    load = story.load().start()
    follow(platform, story, ("RolledBack",), served="chat-2", seconds=420)
    load.stop()
    say(indent(platform.modelops(AUTHOR, "status", "-n", NAMESPACE)))

    host, port = cluster.gateway_address()
    say(f"""
The cluster is left running ({time.monotonic() - START:.0f} s in all).  Look at it:
  export KUBECONFIG={cluster.kubeconfig}
  export PATH=$PWD/.venv/bin:{platform.admin.program.parent}:$PATH
  kubectl get models,modelversions,inferenceservices -n {NAMESPACE} -o wide
  kubectl modelops status -n {NAMESPACE}
  kubectl modelops rollout chat -n {NAMESPACE}
  kubectl logs -n {SYSTEM} deployment/modelops
  curl -H 'Host: {HOST}' http://{host}:{port}/v1/models
Prometheus: {cluster.prometheus_url()}
Remove it: make demo-down""")


def follow(platform: Platform, story: Story, ends: tuple[str, ...], *, served: str, seconds: float) -> None:
    """Print every change of the rollout until it ended."""
    deadline, before = time.monotonic() + seconds, ""
    while time.monotonic() < deadline:
        status = platform.service().get("status") or {}
        rollout = status.get("rollout") or {}
        share = f" {story.weight()} %" if status.get("candidate") else ""
        line = f"{rollout.get('phase', '')}{share}  {rollout.get('message', '')}"
        if line != before:
            say(f"  [{time.monotonic() - START:5.0f} s] {line}")
            before = line
        if rollout.get("phase") in ends and (status.get("stable") or {}).get("version") == served:
            return
        time.sleep(1)
    raise TimeoutError(f"rollout: wanted {' or '.join(ends)} within {seconds:.0f} s, found {before}")


def chapter(title: str) -> None:
    say(f"\n{title}\n{'-' * len(title)}")


@contextlib.contextmanager
def step(title: str) -> Iterator[None]:
    """Print what is done, and how long it took."""
    print(f"  {title} ...", end="", flush=True)
    start = time.monotonic()
    try:
        yield
    except BaseException:
        print(" failed", flush=True)
        raise
    print(f" {time.monotonic() - start:.1f} s", flush=True)


def show(platform: Platform, *args: str) -> None:
    say(indent(platform.admin(*args)))


def indent(text: str) -> str:
    return "\n".join(f"    {line}" for line in text.rstrip().splitlines())


def say(text: str) -> None:
    print(text, flush=True)


def quiet(text: str) -> None:
    """Say nothing: the demo tells the stages itself."""


if __name__ == "__main__":
    sys.exit(main())
