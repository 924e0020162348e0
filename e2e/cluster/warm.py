"""Make everything that a native cluster needs before it comes up: packages, programs, images."""

import argparse
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from e2e.cluster import binaries, cache, images, packages, rootfs
from e2e.cluster.progress import CACHED, finished, say


def warm(*, kwok: bool = False) -> None:
    """Make everything that a cluster needs, with a line for each stage and a table at the end.

    What waits for the network runs beside the Go builds, which run one after another.
    """
    packages.ensure()
    beside: tuple[Callable[[], object], ...] = (
        lambda: rootfs.ensure(rootfs.PYTHON),
        lambda: rootfs.ensure(rootfs.LLAMA),
        images.envoy,
    )
    with ThreadPoolExecutor(max_workers=1) as pool:
        waiting = [pool.submit(work) for work in beside]
        for part in (*binaries.CLUSTER, *(("kwok",) if kwok else ())):
            binaries.ensure(part)
        for work in waiting:
            work.result()
    images.golden_root()
    images.chart("envoy-gateway")
    images.gateway_api_crds()
    images.build_store()


def main() -> None:
    """Run ``python -m e2e.cluster.warm``."""
    parser = argparse.ArgumentParser(prog="python -m e2e.cluster.warm", description=__doc__)
    parser.add_argument("--kwok", action="store_true", help="build kwok too, which only a bench needs")
    warm(kwok=parser.parse_args().kwok)
    made = [stage for stage in finished() if stage[1] != CACHED]
    for name, outcome, took in made:
        print(f"{took:8.1f} s  {name}: {outcome}")
    say(f"binaries and images: {len(made)} made, {len(finished()) - len(made)} cached in {cache.root()}")


if __name__ == "__main__":
    main()
