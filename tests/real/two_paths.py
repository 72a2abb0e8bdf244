"""two_paths.py PROXY CA: 200 requests on one HTTP/2 connection, by turns to two paths; counts the subjects that came back."""
import asyncio
import collections
import ssl
import sys

import httpx

proxy, ca = sys.argv[1:]


async def subject(client, path):
    answer = await client.get(f"https://api.gp.test{path}")
    assert answer.http_version == "HTTP/2", answer.http_version
    return path, answer.text.split("dn=CN=")[1].split()[0]


async def main():
    trust = ssl.create_default_context(cafile=ca)
    single = httpx.Limits(max_connections=1)
    async with httpx.AsyncClient(http2=True, proxy=proxy, verify=trust, limits=single, timeout=60) as client:
        answers = await asyncio.gather(*(subject(client, "/dn/bob" if n % 2 else "/dn") for n in range(200)))
    right = collections.Counter(who for path, who in answers if path == {"alice": "/dn", "bob": "/dn/bob"}[who])
    print(f"alice {right['alice']}, bob {right['bob']}")


asyncio.run(main())
