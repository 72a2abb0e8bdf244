"""person.py URL [--ca FILE] [--deny] [--device]: walks oidc-provider's login and consent pages as a person at a browser would,
to the end: also to the address on this machine that it is sent back to."""
import argparse
import html
import re
import sys
from urllib.parse import urljoin

import requests

arguments = argparse.ArgumentParser()
arguments.add_argument("url")
arguments.add_argument("--ca")
arguments.add_argument("--deny", action="store_true")
arguments.add_argument("--device", action="store_true")
asked = arguments.parse_args()

session = requests.Session()
session.trust_env = False
session.verify = asked.ca or True
answer = session.get(asked.url, allow_redirects=False)
origin = re.match(r"https?://[^/]+", asked.url).group(0)
for _ in range(20):
    if answer.is_redirect:
        target = urljoin(answer.url, answer.headers["location"])
        if not target.startswith(origin):
            print(session.get(target, allow_redirects=False).text)
            sys.exit(0)
        if asked.deny and "/interaction/" in target:
            target = target.rstrip("/") + "/abort"
        answer = session.get(target, allow_redirects=False)
        continue
    form = re.search(r'<form.*?action="([^"]+)".*?</form>', answer.text, re.S)
    if not form:
        if asked.device and answer.status_code == 200 and "uccess" in answer.text:
            sys.exit(0)
        sys.exit(f"stuck at {answer.url} {answer.status_code}: {re.sub('<[^>]+>', ' ', answer.text)[-300:]}")
    fields = {name: html.unescape(value) for name, value in re.findall(r'<input[^>]*?name="([^"]+)"[^>]*?value="([^"]*)"', form.group(0))}
    if 'name="login"' in form.group(0):
        fields.update(login="alice", password="whatever")
    if asked.device and "xsrf" in fields:
        fields.setdefault("confirm", "yes")
    answer = session.post(urljoin(answer.url, html.unescape(form.group(1))), data=fields, allow_redirects=False)
sys.exit("too many steps")
