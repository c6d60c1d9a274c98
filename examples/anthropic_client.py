"""Any program that uses anthropic-python: change base_url, and say for whom it asks.

HOLDFAST_KEY=hf_… ANTHROPIC_API_KEY=sk-ant-… python examples/anthropic_client.py
"""

import os

from anthropic import Anthropic

client = Anthropic(
    base_url=os.environ.get("HOLDFAST_URL", "http://127.0.0.1:8790"),
    default_headers={"x-holdfast-key": os.environ["HOLDFAST_KEY"]},
)

with client.messages.stream(
    model=os.environ.get("MODEL", "claude-sonnet-5"),
    max_tokens=500,
    messages=[{"role": "user", "content": "Which desserts should I try in Sicily?"}],
    metadata={"user_id": "ada"},
) as stream:
    for text in stream.text_stream:
        print(text, end="", flush=True)
    print("\nevidence:", stream.response.headers["x-holdfast-evidence"])
