"""Start the stand-in: ``python -m e2e.engine --as ENGINE ARGS``."""

import asyncio
import os
import sys
from pathlib import Path

from e2e.engine.flags import BadFlags, read
from e2e.engine.knobs import Knobs
from e2e.engine.server import serve

_GGUF_MAGIC = b"GGUF"


def main(argv: list[str]) -> int:
    """Return the exit code that the engine would have."""
    try:
        settings = read(argv)
        knobs = Knobs.from_json(os.environ.get("STAND_IN_KNOBS", "{}"))
    except BadFlags as error:
        print(error, file=sys.stderr)
        return error.exit_code
    except ValueError as error:
        print(f"STAND_IN_KNOBS: {error}", file=sys.stderr)
        return 2
    if settings.model.startswith("/") and not _is_there(settings.engine, Path(settings.model)):
        print(f"failed to load model: {settings.model} is missing or not of the engine's format; "
              "exiting due to model loading error", file=sys.stderr)  # fmt: skip
        return 1
    return asyncio.run(serve(settings, knobs))


def _is_there(engine: str, model: Path) -> bool:
    if engine != "llamacpp":
        return model.is_dir()
    try:
        with model.open("rb") as file:
            return file.read(4) == _GGUF_MAGIC
    except OSError:
        return False


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
