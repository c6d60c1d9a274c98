"""Any program that uses openai-python: change base_url, and say for whom it asks.

    HOLDFAST_KEY=hf_… OPENAI_API_KEY=sk-… python examples/openai_client.py

The key of Holdfast goes in a header of its own; the provider's key is passed on.
"""

import os

from openai import OpenAI

client = OpenAI(
    base_url=os.environ.get("HOLDFAST_URL", "http://127.0.0.1:8790") + "/v1",
    default_headers={"x-holdfast-key": os.environ["HOLDFAST_KEY"]},
)
model = os.environ.get("MODEL", "gpt-5-mini")

answer = client.chat.completions.with_raw_response.create(
    model=model,
    messages=[{"role": "user", "content": "Which desserts should I try in Sicily?"}],
    user="ada",
)
print(answer.parse().choices[0].message.content)
print("evidence:", answer.headers["x-holdfast-evidence"])

stream = client.responses.create(
    model=model,
    input="And which of them have no nuts in them?",
    extra_headers={"x-holdfast-subject": "ada"},
    stream=True,
)
for event in stream:
    if event.type == "response.output_text.delta":
        print(event.delta, end="", flush=True)
print()
