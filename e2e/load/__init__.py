"""Steady load on one service, and an exact account of what became of every request.

``python -m e2e.load --url http://HOST:PORT --model NAME --seconds N --out FILE.json`` from a shell;
``Load(Plan(...)).start()``, later ``.stop() -> Report``, from a test: it runs in a thread of its own.

* ``load``: short requests at a fixed rate, and so many long streams always open
* ``report``: the account, and the pure counting in it
"""

from e2e.load.load import Load, Plan
from e2e.load.report import Report

__all__ = ["Load", "Plan", "Report"]
