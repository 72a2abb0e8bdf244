"""websocket.py URL CA PROXY|-: greets, echoes a text and 1 MiB."""
import asyncio, os, ssl, sys

import websockets

url, ca, proxy = sys.argv[1:]


async def main():
    async with websockets.connect(url, ssl=ssl.create_default_context(cafile=ca), proxy=None if proxy == "-" else proxy, max_size=None) as ws:
        print(await ws.recv())
        await ws.send("hello")
        assert await ws.recv() == "hello"
        blob = os.urandom(1 << 20)
        await ws.send(blob)
        assert await ws.recv() == blob
        await (await ws.ping())
        print("echo ok")


asyncio.run(asyncio.wait_for(main(), 30))
