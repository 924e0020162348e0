"""Processes that outlive their starter are ended by their own identity only."""

import json
import os
import signal
import sys

import pytest

from e2e.cluster import processes

FOREVER = (sys.executable, "-S", "-c", "import signal; signal.pause()")


@pytest.fixture
def state(tmp_path):
    yield tmp_path
    for name in processes.recorded(tmp_path):
        processes.stop(tmp_path, name, how=signal.SIGKILL)


def test_a_started_process_is_known_until_it_is_stopped(state):
    pid = processes.start(state, "one", FOREVER)
    assert processes.pid_of(state, "one") == pid
    processes.stop(state, "one")
    assert processes.pid_of(state, "one") is None
    assert processes.started(pid) is None
    assert processes.recorded(state) == ()


def test_an_id_that_now_belongs_to_another_process_is_left_alone(state):
    processes.start(state, "one", FOREVER)
    processes.stop(state, "one")
    record = {"pid": os.getpid(), "started": 1}  # this very process, but not started at tick 1
    (state / "run" / "one.json").write_text(json.dumps(record))
    assert processes.pid_of(state, "one") is None
    processes.stop(state, "one", how=signal.SIGKILL)


def test_a_process_that_ignores_the_request_is_killed(state):
    deaf = "import signal; signal.signal(15, signal.SIG_IGN); print('deaf', flush=True); signal.pause()"
    pid = processes.start(state, "deaf", (sys.executable, "-S", "-c", deaf))
    log = state / "logs" / "deaf.log"
    while "deaf" not in log.read_text():
        assert processes.started(pid) is not None
    processes.stop(state, "deaf", grace_s=0.1)
    assert processes.started(pid) is None


def test_a_frozen_process_is_still_running(state):
    pid = processes.start(state, "one", FOREVER)
    os.kill(pid, signal.SIGSTOP)
    assert processes.pid_of(state, "one") == pid


def test_what_never_ran_is_not_running(tmp_path):
    assert processes.pid_of(tmp_path, "nothing") is None
    processes.stop(tmp_path, "nothing")
