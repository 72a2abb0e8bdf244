"""rotation_load.py PROXY CA SECONDS RATE URL…: asks the URLs by turns, so many a second, half over HTTP/1.1 and half over HTTP/2; tells what failed. SIGTERM ends it early."""
import asyncio
import signal
import ssl
import sys
import time

import httpx

proxy, ca, seconds, rate, *urls = sys.argv[1:]
seconds, rate = float(seconds), float(rate)


async def main():
    trust = ssl.create_default_context(cafile=ca)
    limits = httpx.Limits(max_connections=4, max_keepalive_connections=4)
    make = lambda **more: httpx.AsyncClient(proxy=proxy, verify=trust, limits=limits, timeout=30, **more)
    failures, done = [], 0
    async with make() as h1, make(http2=True) as h2:

        async def one(n):
            nonlocal done
            try:
                answer = await (h1 if n % 2 else h2).get(urls[n // 2 % len(urls)])
                if answer.status_code != 200:
                    failures.append(f"{answer.status_code} {answer.text[:200]}")
            except Exception as cause:
                failures.append(repr(cause))
            done += 1

        started, tasks, stop = time.monotonic(), [], asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
        for n in range(int(seconds * rate)):
            if stop.is_set():
                break
            await asyncio.sleep(max(0, started + n / rate - time.monotonic()))
            tasks.append(asyncio.create_task(one(n)))
        await asyncio.gather(*tasks)
        took = time.monotonic() - started
    print(f"{done} requests in {took:.1f} s, {len(failures)} failed")
    print("\n".join(failures[:5]))


asyncio.run(main())
