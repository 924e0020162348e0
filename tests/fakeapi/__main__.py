"""``python -m tests.fakeapi``: run the server until a signal comes; its first line is its address."""

import argparse
import asyncio
import signal

from tests.fakeapi.api import FakeApi


async def main(port: int) -> None:
    over = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, over.set)
    async with FakeApi(port=port) as api:
        print(api.url, flush=True)
        await over.wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="default: a free one")
    asyncio.run(main(parser.parse_args().port))
