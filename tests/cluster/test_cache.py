"""What is kept under the hash of what made it."""

import os
import time

import pytest

from e2e.cluster import cache


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


def _writer(text):
    def build(work, _step):
        (work / "made").write_text(text)

    return build


def test_the_same_material_is_built_once():
    first = cache.keyed("kind", {"pin": "1"}, _writer("first"))
    second = cache.keyed("kind", {"pin": "1"}, _writer("second"))
    assert second == first
    assert (first / "made").read_text() == "first"


@pytest.mark.parametrize(
    "other",
    [
        pytest.param({"pin": "2"}, id="another value"),
        pytest.param({"pin": "1", "tags": ""}, id="one entry more"),
        pytest.param({"pinned": "1"}, id="another name"),
    ],
)
def test_other_material_is_built_again(other):
    assert cache.key_of(other) != cache.key_of({"pin": "1"})
    assert cache.keyed("kind", other, _writer("")) != cache.keyed("kind", {"pin": "1"}, _writer(""))


def test_the_order_of_the_material_does_not_matter():
    assert cache.key_of({"a": "1", "b": "2"}) == cache.key_of({"b": "2", "a": "1"})


def test_a_build_that_fails_leaves_nothing_and_may_be_tried_again():
    def fails(work, _step):
        (work / "half").write_text("")
        raise OSError("disk is full")

    with pytest.raises(OSError, match="disk is full"):
        cache.keyed("kind", {"pin": "1"}, fails)
    assert list((cache.root() / "kind").iterdir()) == []
    assert (cache.keyed("kind", {"pin": "1"}, _writer("whole")) / "made").exists()


def test_the_recipe_lies_beside_the_content():
    folder = cache.keyed("kind", {"pin": "1"}, _writer(""))
    assert (folder / cache.RECIPE).read_text() == '{\n "pin": "1"\n}\n'


def test_only_unused_folders_beyond_the_newest_two_are_removed():
    made = [cache.keyed("kind", {"pin": str(pin)}, _writer("")) for pin in range(5)]
    now, day = time.time(), 86_400
    for folder, days in zip(made, (30, 20, 6, 10, 9), strict=True):
        os.utime(folder, (now - days * day, now - days * day))
    newest = cache.keyed("kind", {"pin": "new"}, _writer(""))
    # newest and the one of 6 days stay as the two newest, the others are older than a week
    assert set((cache.root() / "kind").iterdir()) == {newest, made[2]}


def test_what_another_run_stages_now_stays():
    cache.keyed("kind", {"pin": "1"}, _writer(""))
    staged = cache.root() / "kind" / ".staging-of-another-run"
    staged.mkdir()
    cache.keyed("kind", {"pin": "2"}, _writer(""))
    assert staged.exists()


def test_the_cache_lies_where_the_user_keeps_caches(tmp_path, monkeypatch):
    assert cache.root() == tmp_path / "modelops"
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    monkeypatch.setenv("HOME", "/home/alice")
    assert str(cache.root()) == "/home/alice/.cache/modelops"
