"""sdk.py TOKEN_URL API_URL: a program with oauthlib, which fetches a token and calls an API with it."""
import sys

import requests
from oauthlib.oauth2 import BackendApplicationClient

token_url, api_url = sys.argv[1:]
client = BackendApplicationClient("any")
form = {"Content-Type": "application/x-www-form-urlencoded"}
answer = requests.post(token_url, data=client.prepare_request_body(client_secret="any"), headers=form, timeout=20)
print(answer.text)
client.parse_request_body_response(answer.text)
url, headers, _ = client.add_token(api_url)
print(requests.get(url, headers=headers, timeout=20).text)
