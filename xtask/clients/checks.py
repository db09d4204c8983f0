"""What real clients see: the OpenAI SDK, the Anthropic SDK and curl against a running ds4-server.

Usage: checks.py URL SCRIPTED_URL. The second server's model calls tools as script.json says. Every function below that begins with `openai_`, `anthropic_` or `curl_` is a check.
"""

import asyncio
import json
import shutil
import subprocess
import sys

import anthropic
import openai

URL = sys.argv[1]
OPENAI = openai.OpenAI(base_url=URL + "/v1", api_key="any", max_retries=0)
ANTHROPIC = anthropic.Anthropic(base_url=URL, api_key="any", max_retries=0)
CALLS_OPENAI = openai.OpenAI(base_url=sys.argv[2] + "/v1", api_key="any", max_retries=0)
CALLS_ANTHROPIC = anthropic.Anthropic(base_url=sys.argv[2], api_key="any", max_retries=0)
SCHEMA = {
    "type": "object",
    "properties": {"path": {"type": "string"}, "lines": {"type": "integer"}},
    "required": ["path"],
}
SUM = [{"role": "user", "content": "What is 7 + 8?"}]
PHRASE = [{"role": "user", "content": "Reply with exactly: green falcon"}]
OFF = {"thinking": {"type": "disabled"}}


def chat(messages, **options):
    options = {"model": "deepseek-v4-flash", "temperature": 0, "extra_body": OFF} | options
    return OPENAI.chat.completions.create(messages=messages, **options)


def message(messages, **options):
    # This SDK has no temperature any more; the API has.
    greedy = {"extra_body": {"temperature": 0}}
    options = {"model": "deepseek-v4-flash", "max_tokens": 100, "thinking": OFF["thinking"]} | greedy | options
    return ANTHROPIC.messages.create(messages=messages, **options)


def refused(kind, call):
    """The error of this class that a call ends with."""
    try:
        call()
    except kind as error:
        return error
    raise AssertionError(f"no {kind.__name__}")


# --- OpenAI SDK ---


def openai_lists_models():
    models = OPENAI.models.list().data
    assert len(models) == 1 and models[0].object == "model", models


def openai_finds_the_usual_model():
    assert OPENAI.models.retrieve("deepseek-v4-flash").id == "deepseek-v4-flash"


def openai_misses_other_models():
    refused(openai.NotFoundError, lambda: OPENAI.models.retrieve("gpt"))


def openai_chats():
    answer = chat(SUM)
    assert answer.choices[0].message.content == "15", answer
    assert answer.choices[0].finish_reason == "stop"


def openai_reports_usage():
    usage = chat(SUM).usage
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens
    assert usage.prompt_tokens_details.cached_tokens > 0, "asked before"


def openai_keeps_reasoning_apart():
    answer = chat(SUM, extra_body={"seed": 3}).choices[0].message
    assert answer.reasoning_content and "think>" not in answer.model_dump_json(), answer


def openai_streams():
    chunks = list(chat(PHRASE, stream=True, stream_options={"include_usage": True}))
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert text == "green falcon", text
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[-2].choices[0].finish_reason == "stop"
    assert not chunks[-1].choices and chunks[-1].usage.completion_tokens > 1


def openai_streams_reasoning_first():
    seen = []
    for chunk in chat(SUM, stream=True, extra_body={"seed": 3}):
        delta = chunk.choices[0].delta.model_dump(exclude_none=True)
        seen += [kind for kind in ("reasoning_content", "content") if delta.get(kind)]
    assert seen[0] == "reasoning_content" and sorted(seen, reverse=True) == seen, seen


def openai_accumulates_a_stream():
    with OPENAI.chat.completions.stream(model="m", messages=PHRASE, temperature=0, extra_body=OFF) as stream:
        for _ in stream:
            pass
        assert stream.get_final_completion().choices[0].message.content == "green falcon"


def openai_stops_at_a_string():
    answer = chat(PHRASE, stop=["fal"]).choices[0]
    assert (answer.message.content, answer.finish_reason) == ("green ", "stop"), answer


def openai_limits_tokens():
    for field in ("max_tokens", "max_completion_tokens"):
        answer = chat(PHRASE, **{field: 2})
        assert (answer.usage.completion_tokens, answer.choices[0].finish_reason) == (2, "length"), answer


def openai_repeats_with_a_seed():
    draw = lambda: chat(PHRASE, temperature=2, seed=11, max_tokens=20).choices[0].message.content
    assert draw() == draw()


def openai_reads_parts_and_developers():
    parts = [{"type": "text", "text": "What is 7 + 8?"}]
    answer = chat([{"role": "developer", "content": ""}, {"role": "user", "content": parts}])
    assert answer.choices[0].message.content


def openai_continues_a_conversation():
    first = chat(PHRASE).choices[0].message
    answer = chat(PHRASE + [first.model_dump(exclude_none=True)] + SUM)
    assert answer.choices[0].message.content == "15", answer


def openai_takes_tools_without_choking():
    function = {"name": "f", "description": "d", "parameters": {"type": "object", "properties": {}}}
    assert chat(PHRASE, tools=[{"type": "function", "function": function}], max_tokens=5).choices


def openai_knows_a_bad_request():
    error = refused(openai.BadRequestError, lambda: chat(SUM, n=9))
    assert "n: 9 answers" in str(error), error


def openai_knows_a_context_overflow():
    long = [{"role": "user", "content": "river stone " * 20000}]
    error = refused(openai.BadRequestError, lambda: chat(long))
    assert error.code == "context_length_exceeded" and error.param == "messages", error


def openai_leaves_a_stream_half_way():
    stream = chat(PHRASE, stream=True)
    next(iter(stream))
    stream.close()
    assert chat(SUM).choices[0].message.content == "15"


def openai_asks_several_at_once():
    client = openai.AsyncOpenAI(base_url=URL + "/v1", api_key="any", max_retries=0)

    async def ask():
        calls = (client.chat.completions.create(model="m", messages=SUM, temperature=0, extra_body=OFF) for _ in range(6))
        return await asyncio.gather(*calls)

    assert [a.choices[0].message.content for a in asyncio.run(ask())] == ["15"] * 6


def openai_completes_a_prompt():
    options = {"model": "m", "prompt": PHRASE[0]["content"], "temperature": 0, "extra_body": OFF}
    assert OPENAI.completions.create(**options).choices[0].text == "green falcon"
    assert "".join(c.choices[0].text for c in OPENAI.completions.create(stream=True, **options)) == "green falcon"


def respond(input, **options):
    options = {"model": "deepseek-v4-flash", "temperature": 0, "reasoning": {"effort": "none"}} | options
    return OPENAI.responses.create(input=input, **options)


def openai_responds():
    answer = respond(SUM[0]["content"])
    assert (answer.output_text, answer.status) == ("15", "completed"), answer
    assert answer.usage.total_tokens == answer.usage.input_tokens + answer.usage.output_tokens


def openai_streams_a_response():
    with OPENAI.responses.stream(model="m", input=PHRASE, temperature=0, reasoning={"effort": "none"}) as stream:
        numbers = [event.sequence_number for event in stream]
        assert stream.get_final_response().output_text == "green falcon"
    assert numbers == sorted(numbers) and numbers[0] == 0, numbers


def openai_sees_the_reasoning_of_a_response():
    answer = respond(SUM, reasoning={"summary": "auto"}, extra_body={"seed": 3})
    assert [item.type for item in answer.output] == ["reasoning", "message"], answer
    assert answer.output[0].summary[0].text and answer.usage.output_tokens_details.reasoning_tokens > 0


def openai_goes_on_from_a_response():
    first = respond(PHRASE)
    assert respond(SUM, previous_response_id=first.id).output_text == "15"
    error = refused(openai.BadRequestError, lambda: respond(SUM, previous_response_id="resp_0"))
    assert error.code == "previous_response_not_found", error


# --- Anthropic SDK ---


def anthropic_lists_models():
    models = ANTHROPIC.models.list().data
    assert len(models) == 1 and models[0].display_name, models


def anthropic_finds_the_usual_model():
    assert ANTHROPIC.models.retrieve("deepseek-v4-flash").id == "deepseek-v4-flash"


def anthropic_chats():
    answer = message(SUM)
    assert [(b.type, b.text) for b in answer.content] == [("text", "15")], answer
    assert answer.stop_reason == "end_turn" and answer.usage.output_tokens > 1


def anthropic_thinks():
    answer = message(SUM, thinking={"type": "enabled", "budget_tokens": 1024}, max_tokens=2000)
    assert [b.type for b in answer.content] == ["thinking", "text"], answer
    assert answer.content[0].signature


def anthropic_streams():
    with ANTHROPIC.messages.stream(
        model="m", max_tokens=100, messages=PHRASE, thinking=OFF["thinking"], extra_body={"temperature": 0}
    ) as stream:
        assert "".join(stream.text_stream) == "green falcon"
        assert stream.get_final_message().stop_reason == "end_turn"


def anthropic_streams_thinking():
    kinds = []
    with ANTHROPIC.messages.stream(model="m", max_tokens=100, messages=SUM) as stream:
        for event in stream:
            if event.type == "content_block_stop":
                kinds.append(event.content_block.type)
        final = stream.get_final_message()
    assert kinds == ["thinking", "text"] == [b.type for b in final.content], kinds
    assert final.usage.output_tokens > 3


def anthropic_stops_at_a_sequence():
    answer = message(PHRASE, stop_sequences=["fal"])
    assert (answer.content[0].text, answer.stop_reason, answer.stop_sequence) == ("green ", "stop_sequence", "fal"), answer


def anthropic_continues_with_thinking_blocks():
    first = message(SUM, thinking={"type": "enabled", "budget_tokens": 1024}, max_tokens=2000)
    answer = message(SUM + [{"role": "assistant", "content": first.content}] + PHRASE)
    assert answer.content[0].text == "green falcon", answer


def anthropic_replays_tools():
    use = {"type": "tool_use", "id": "t1", "name": "f", "input": {"a": 1}}
    result = {"type": "tool_result", "tool_use_id": "t1", "content": "done"}
    history = SUM + [{"role": "assistant", "content": [use]}, {"role": "user", "content": [result]}]
    tools = [{"name": "f", "description": "d", "input_schema": {"type": "object", "properties": {}}}]
    assert message(history, tools=tools, max_tokens=5).type == "message"


def anthropic_counts_tokens():
    counted = ANTHROPIC.messages.count_tokens(model="m", messages=SUM, thinking=OFF["thinking"]).input_tokens
    usage = message(SUM).usage
    assert counted == usage.input_tokens + usage.cache_read_input_tokens


def anthropic_knows_a_context_overflow():
    long = [{"role": "user", "content": "river stone " * 20000}]
    error = refused(anthropic.BadRequestError, lambda: message(long))
    assert "prompt is too long: " in str(error), error


# --- curl ---


def curl(*arguments):
    return subprocess.run(["curl", "-sS", *arguments], check=True, capture_output=True, text=True, timeout=60).stdout


def curl_asks_for_health():
    assert json.loads(curl(URL + "/health"))["status"] == "ok"


def curl_chats():
    body = json.dumps({"messages": SUM, "think": False, "temperature": 0})
    answer = json.loads(curl(URL + "/v1/chat/completions", "-d", body))
    assert answer["choices"][0]["message"]["content"] == "15", answer


def curl_streams():
    body = json.dumps({"messages": PHRASE, "think": False, "temperature": 0, "stream": True})
    answer = curl("-N", URL + "/v1/chat/completions", "-d", body)
    assert answer.endswith("data: [DONE]\n\n") and '"role":"assistant"' in answer, answer


def curl_is_told_what_is_wrong():
    status = curl("-o", "/dev/null", "-w", "%{http_code}", URL + "/v1/chat/completions", "-d", "{")
    assert status == "400", status


def curl_asks_as_a_browser_does():
    answer = curl("-i", "-X", "OPTIONS", URL + "/v1/chat/completions").lower()
    assert answer.startswith("http/1.1 204") and "access-control-allow-origin: *" in answer, answer


# --- Tools ---


def called(**options):
    function = {"name": "read", "description": "Reads a file.", "parameters": SCHEMA}
    tools = [{"type": "function", "function": function}]
    return {"model": "deepseek-v4-flash", "tools": tools} | options


def used(**options):
    tools = [{"name": "read", "description": "Reads a file.", "input_schema": SCHEMA}]
    return {"model": "deepseek-v4-flash", "max_tokens": 1000, "tools": tools} | options


def asking(text):
    return [{"role": "user", "content": text}]


def openai_calls_a_tool_and_goes_on():
    messages = asking("Read it.")
    choice = CALLS_OPENAI.chat.completions.create(**called(messages=messages)).choices[0]
    assert choice.finish_reason == "tool_calls" and choice.message.reasoning_content == "one call", choice
    (call,) = choice.message.tool_calls
    assert call.function.name == "read" and json.loads(call.function.arguments) == {"path": 'a "b"\n.txt'}, call
    messages += [choice.message, {"role": "tool", "tool_call_id": call.id, "content": "hello"}]
    choice = CALLS_OPENAI.chat.completions.create(**called(messages=messages)).choices[0]
    assert choice.finish_reason == "stop" and choice.message.content == "It says hello.", choice


def openai_streams_two_calls():
    with CALLS_OPENAI.chat.completions.stream(**called(messages=asking("Read both."))) as stream:
        choice = stream.get_final_completion().choices[0]
    assert choice.finish_reason == "tool_calls" and choice.message.content == "I read both.", choice
    arguments = [json.loads(call.function.arguments) for call in choice.message.tool_calls]
    assert arguments == [{"path": "a.txt"}, {"path": "b.txt", "lines": 3}], arguments
    assert len({call.id for call in choice.message.tool_calls}) == 2


def responding(text):
    tools = [{"type": "function", "name": "read", "parameters": SCHEMA, "strict": False}]
    return {"model": "m", "input": asking(text), "tools": tools, "reasoning": {"summary": "auto"}}


def openai_calls_a_tool_in_a_response_and_goes_on():
    options = responding("Read it.")
    answer = CALLS_OPENAI.responses.create(**options)
    assert [item.type for item in answer.output] == ["reasoning", "function_call"], answer
    call = answer.output[-1]
    assert call.name == "read" and json.loads(call.arguments) == {"path": 'a "b"\n.txt'}, call
    result = {"type": "function_call_output", "call_id": call.call_id, "output": "hello"}
    whole = options | {"input": options["input"] + answer.output + [result]}
    short = options | {"input": [result], "previous_response_id": answer.id}
    for options in (whole, short):
        answer = CALLS_OPENAI.responses.create(**options)
        assert answer.output_text == "It says hello.", answer


def openai_streams_a_response_with_two_calls():
    with CALLS_OPENAI.responses.stream(**responding("Read both.")) as stream:
        deltas = [event.delta for event in stream if event.type == "response.function_call_arguments.delta"]
        answer = stream.get_final_response()
    assert [item.type for item in answer.output] == ["reasoning", "message", "function_call", "function_call"], answer
    assert "".join(deltas) == "".join(item.arguments for item in answer.output[2:]), deltas


def openai_sees_that_a_call_broke_off():
    choice = CALLS_OPENAI.chat.completions.create(**called(messages=asking("a long one"))).choices[0]
    assert choice.finish_reason == "error" and "a.t" in choice.message.content, choice
    assert not choice.message.tool_calls


def openai_is_called_by_nothing_that_it_does_not_offer():
    choice = CALLS_OPENAI.chat.completions.create(**called(messages=asking("Read it."), tool_choice="none")).choices[0]
    assert not choice.message.tool_calls and "invoke" in choice.message.content, choice


def anthropic_uses_a_tool_and_goes_on():
    messages = asking("Read it.")
    answer = CALLS_ANTHROPIC.messages.create(**used(messages=messages))
    assert answer.stop_reason == "tool_use" and [b.type for b in answer.content] == ["thinking", "tool_use"], answer
    use = answer.content[-1]
    assert use.name == "read" and use.input == {"path": 'a "b"\n.txt'} and use.id.startswith("toolu_"), use
    result = {"type": "tool_result", "tool_use_id": use.id, "content": "hello"}
    messages += [{"role": "assistant", "content": answer.content}, {"role": "user", "content": [result]}]
    answer = CALLS_ANTHROPIC.messages.create(**used(messages=messages))
    assert answer.stop_reason == "end_turn" and answer.content[-1].text == "It says hello.", answer


def anthropic_streams_two_uses():
    with CALLS_ANTHROPIC.messages.stream(**used(messages=asking("Read both."))) as stream:
        answer = stream.get_final_message()
    assert answer.stop_reason == "tool_use", answer
    assert [b.type for b in answer.content] == ["thinking", "text", "tool_use", "tool_use"], answer
    assert [b.input for b in answer.content[2:]] == [{"path": "a.txt"}, {"path": "b.txt", "lines": 3}], answer


def anthropic_sees_that_a_use_broke_off():
    answer = CALLS_ANTHROPIC.messages.create(**used(messages=asking("a long one")))
    assert answer.stop_reason == "max_tokens" and [b.type for b in answer.content] == ["thinking", "text"], answer


def main():
    passed, failed, skipped = 0, 0, []
    for name, check in list(globals().items()):
        if not name.startswith(("openai_", "anthropic_", "curl_")):
            continue
        if name.startswith("curl_") and not shutil.which("curl"):
            skipped.append(name)
            continue
        try:
            check()
            passed += 1
            print(f"ok      {name}")
        except Exception as error:  # a check may fail in any way
            failed += 1
            print(f"FAILED  {name}: {type(error).__name__}: {error}")
    print(f"clients: {passed} checks passed, {failed} failed")
    print(f"parts skipped on this machine: {len(skipped)}", *(f"\n  skipped: {name}: needs curl" for name in skipped))
    sys.exit(1 if failed else 0)


main()
