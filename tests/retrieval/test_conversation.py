"""A conversation, turn after turn: what is put into it, and what is on record of it."""

import hashlib
import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from holdfast import Holdfast
from holdfast.memory.errors import InvalidInputError, StorageError
from holdfast.retrieval.context import OPENING
from holdfast.retrieval.conversation import Intent, Turn, user_turns

Messages = list[dict[str, Any]]


def prepare(messages: Messages, system: str) -> Intent:
    said = {"messages": messages} | ({"system": system} if system else {})
    return Intent("openai", "a-model", json.dumps(said).encode())


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def reply(text: str = "Well.") -> dict[str, Any]:
    return {"role": "assistant", "content": text}


def sent(turn: Turn) -> Messages:
    return json.loads(turn.intent.body)["messages"]


def test_the_retrieval_and_the_intent_are_one_transaction(
    fake: Holdfast, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake.add("ada", "I never eat nuts.")
    turn = fake.converse("ada", [user("nuts?")], prepare)
    intent, found = fake.audit.events(limit=2)
    assert (found.id, found.type) == (turn.evidence_id, "retrieval")
    assert (intent.id, intent.type) == (turn.call_id, "call.intent")
    assert (intent.subjects, found.index) == (("ada",), intent.index - 1)
    digest = hashlib.sha256(turn.intent.body).hexdigest()
    assert intent.payload["request_sha256"] == digest

    def fails(*_: Any) -> Any:
        raise StorageError("the disk is gone")

    size = len(fake.audit.events(limit=None))
    with monkeypatch.context() as patched:
        patched.setattr("holdfast.memory.turns.note", fails)
        with pytest.raises(StorageError):
            fake.converse("ada", [user("nuts?")], prepare)
    assert len(fake.audit.events(limit=None)) == size


def test_a_request_that_cannot_be_prepared_leaves_nothing(fake: Holdfast) -> None:
    fake.add("ada", "I never eat nuts.")
    size = len(fake.audit.events(limit=None))

    def refuses(*_: Any) -> Intent:
        raise InvalidInputError("no such model")

    with pytest.raises(InvalidInputError):
        fake.converse("ada", [user("nuts?")], refuses)
    assert len(fake.audit.events(limit=None)) == size


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    words=st.lists(st.sampled_from(["nuts?", "trains?", "thanks", "why", "nuts and trains"]),
                   min_size=1, max_size=6),
    tools=st.lists(st.booleans(), min_size=6, max_size=6),
)  # fmt: skip
def test_every_request_begins_with_the_one_before(
    fake: Holdfast, words: list[str], tools: list[bool]
) -> None:
    fake.add("ada", "I never eat nuts.")
    fake.add("ada", "I love night trains.")
    conversation: Messages = []
    before: Messages = []
    for word, tool in zip(words, tools, strict=False):
        conversation.append(user(word))
        turn = fake.converse("ada", conversation, prepare)
        assert sent(turn)[: len(before)] == before
        if tool:
            conversation += [reply(""), {"role": "tool", "content": "nuts"}]
            again = fake.converse("ada", conversation, prepare)
            assert sent(again)[: len(sent(turn))] == sent(turn)
            assert again.evidence_id == turn.evidence_id
            turn = again
        before = sent(turn)
        conversation.append(reply())
    assert fake.verify()


def test_a_last_turn_that_is_asked_again_is_retrieved_again(fake: Holdfast) -> None:
    first = fake.converse("ada", [user("nuts?")], prepare)
    assert sent(first) == [user("nuts?")]
    fake.add("ada", "I never eat nuts.")
    second = fake.converse("ada", [user("nuts?")], prepare)
    assert OPENING in sent(second)[0]["content"]
    assert second.evidence_id != first.evidence_id
    third = fake.converse("ada", [user("nuts?"), reply(), user("ok")], prepare)
    assert sent(third)[0] == sent(second)[0]


def test_precedence_of_subjects_makes_another_conversation(fake: Holdfast) -> None:
    fake.add("ada", "I never eat nuts.")
    fake.converse(["acme", "ada"], [user("nuts?")], prepare)
    conversation = [user("nuts?"), reply(), user("hm")]
    assert OPENING in sent(fake.converse(["acme", "ada"], conversation, prepare))[0]["content"]
    assert sent(fake.converse("ada", conversation, prepare))[0] == user("nuts?")
    fake.erase("ada")
    assert sent(fake.converse(["acme", "ada"], conversation, prepare))[0] == user("nuts?")


def test_what_nobody_wrote_gets_nothing(fake: Holdfast) -> None:
    fake.add("ada", "Be blunt.", scope="always")
    for conversation in (
        [{"role": "system", "content": "Hi."}],
        [reply("nuts?")],
        [{"role": "user", "content": [{"type": "tool_result", "content": "nuts"}]}],
        [{"type": "function_call_output", "output": "nuts"}],
        [],
    ):
        turn = fake.converse("ada", conversation, prepare)
        assert OPENING not in json.dumps(sent(turn))
        assert (turn.status, turn.injected) == ("none", 0)
        evidence = fake.audit.entry(turn.evidence_id)
        assert (evidence.payload["context"], evidence.payload["injected"]) == ("", [])
        assert fake.replay(turn.evidence_id)
    fake.add("ada", "Never flatter me.", scope="always", strength="must")
    turn = fake.converse("ada", [], prepare)
    assert (turn.status, turn.injected) == ("degraded", 0)


def test_among_the_instructions_there_is_always_a_place(fake: Holdfast) -> None:
    fake.add("ada", "Be blunt.", scope="always")
    turn = fake.converse("ada", [], prepare, placement="system")
    assert (turn.status, turn.injected) == ("injected", 1)
    assert OPENING in json.loads(turn.intent.body)["system"]


def test_a_turn_is_known_wherever_the_cache_is_marked(fake: Holdfast) -> None:
    fake.add("ada", "I never eat nuts.")
    mark = {"cache_control": {"type": "ephemeral"}}
    deep = [{"type": "tool_use", "input": {"a": [{"b": 1, **mark}]}, **mark}]
    plain = [{"type": "tool_use", "input": {"a": [{"b": 1}]}}]
    marked = [{"type": "text", "text": "nuts?", **mark}]
    before = {"role": "assistant", "content": deep}
    first = sent(fake.converse("ada", [before, {"role": "user", "content": marked}], prepare))
    assert first[1]["content"] == [{**marked[0], "text": first[1]["content"][0]["text"]}]
    for content in ("nuts?", [{"type": "text", "text": "nuts?"}]):
        turn = {"role": "user", "content": content}
        conversation = [{"role": "assistant", "content": plain}, turn, reply(), user("trains?")]
        again = sent(fake.converse("ada", conversation, prepare))[1]["content"]
        text = again if isinstance(again, str) else again[0]["text"]
        assert text == first[1]["content"][0]["text"]
    other = {"role": "user", "content": [{"type": "text", "text": "nuts?", "citations": []}]}
    conversation = [{"role": "assistant", "content": plain}, other, reply(), user("trains?")]
    assert sent(fake.converse("ada", conversation, prepare))[1] == other


def test_turns_of_the_user_are_those_that_say_or_show_something() -> None:
    parts = [{"type": "tool_result", "content": "nuts"}]
    conversation = [
        {"role": "system", "content": "x"}, user("one"), reply(),
        {"role": "user", "content": parts}, user("  "), {"type": "function_call"},
        {"role": "user", "content": [{"text": "two"}]},
        {"role": "user", "content": [{"type": "image"}]},
    ]  # fmt: skip
    assert user_turns(conversation) == [1, 6, 7]


def test_inject_records_what_it_placed_whatever_the_messages_are(fake: Holdfast) -> None:
    fake.add("ada", "Be blunt.", scope="always")
    for content in (
        "", [{"type": "image"}], [{"type": "tool_result", "content": "nuts"}], [], "nuts?"
    ):  # fmt: skip
        given = fake.inject("ada", [{"role": "user", "content": content}])
        assert given.retrieval.context in str(given)
        assert given.retrieval.injected
        assert fake.replay(given.retrieval.evidence_id or "")
    size = len(fake.evidence())
    for messages in ([], [{"role": "system", "content": "x"}], [reply()]):
        with pytest.raises(InvalidInputError, match="no user message"):
            fake.inject("ada", messages, placement="user")
    assert len(fake.evidence()) == size
