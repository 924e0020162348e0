"""What all tests share: the flags that write golden files anew and that run whole campaigns."""

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--update-golden",
        action="store_true",
        help="write the plans of tests/golden anew; read the difference",
    )
    parser.addoption(
        "--all-faults",
        action="store_true",
        help="strike the operator at every write of every story, not at some",
    )


@pytest.fixture
def all_faults(request: pytest.FixtureRequest) -> bool:
    return bool(request.config.getoption("--all-faults"))


@pytest.fixture
def update_golden(request: pytest.FixtureRequest) -> bool:
    return bool(request.config.getoption("--update-golden"))
