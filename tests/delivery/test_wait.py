"""The container that holds a pod until its model is there."""

from pathlib import Path

from modelops.delivery.wait import wait


def test_a_line_is_said_every_ten_seconds_until_the_folder_is_there(tmp_path: Path) -> None:
    now = 0.0
    said: list[tuple[float, str]] = []

    def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds
        if now >= 25:
            (tmp_path / "files").mkdir(exist_ok=True)

    path = str(tmp_path / "files")
    wait(path, say=lambda line: said.append((now, line)), clock=lambda: now, sleep=sleep)
    assert [at for at, _ in said] == [0, 10, 20, 25]
    assert said[-1][1] == f"{path}: is there"


def test_nothing_waits_when_the_folder_is_there(tmp_path: Path) -> None:
    said: list[str] = []
    wait(str(tmp_path), say=said.append, sleep=lambda _: said.append("slept"))
    assert said == [f"{tmp_path}: is there"]
