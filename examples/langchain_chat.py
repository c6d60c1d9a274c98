"""A LangChain chat model in front of Holdfast.

HOLDFAST_KEY=hf_… OPENAI_API_KEY=sk-… python examples/langchain_chat.py
"""

import os

from langchain_openai import ChatOpenAI

model = ChatOpenAI(
    base_url=os.environ.get("HOLDFAST_URL", "http://127.0.0.1:8790") + "/v1",
    model=os.environ.get("MODEL", "gpt-5-mini"),
    default_headers={
        "x-holdfast-key": os.environ["HOLDFAST_KEY"],
        "x-holdfast-subject": "ada",
    },
    include_response_headers=True,
)

answer = model.invoke("Which desserts should I try in Sicily?")
print(answer.content)
print("evidence:", answer.response_metadata["headers"]["x-holdfast-evidence"])
for part in model.stream("And which of them have no nuts in them?"):
    print(part.content, end="", flush=True)
print()
