# SPDX-License-Identifier: MIT
"""clients.py URL — PyPI's openai, anthropic, lmstudio and ollama against a running server."""
import json
import sys
import time
import traceback

import anthropic
import lmstudio
import ollama
import openai

url = sys.argv[1]
MODEL = "skald"
MESSAGES = [{"role": "user", "content": "who are you?"}]
SCHEMA = {
    "type": "object",
    "properties": {"code": {"type": "string", "maxLength": 8}, "n": {"type": "integer", "minimum": 0, "maximum": 9}},
    "required": ["code", "n"],
    "additionalProperties": False,
}
PARAMETERS = {"type": "object", "properties": {"city": {"type": "string", "maxLength": 12}}, "required": ["city"]}
WEATHER = {"name": "get_weather", "description": "The weather of a city", "parameters": PARAMETERS}
checks = []


def check(fn):
    checks.append(fn)
    return fn


def raises(kind, fn):
    try:
        fn()
    except kind as e:
        return e
    raise AssertionError(f"no {kind.__name__}")


oai = openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)
ant = anthropic.Anthropic(base_url=url, api_key="none", max_retries=0)
oll = ollama.Client(host=url)


@check
def openai_lists():
    models = oai.models.list().data
    assert len(models) == 1 and oai.models.retrieve(models[0].id).id == models[0].id


@check
def openai_chat_is_its_stream():
    request = dict(model=MODEL, messages=MESSAGES, temperature=0, max_tokens=24)
    whole = oai.chat.completions.create(**request)
    text = "".join(c.choices[0].delta.content or "" for c in oai.chat.completions.create(**request, stream=True) if c.choices)
    assert text == whole.choices[0].message.content and len(text) > 10


@check
def openai_tools():
    tools = [{"type": "function", "function": WEATHER}]
    r = oai.chat.completions.create(model=MODEL, messages=MESSAGES, tools=tools, tool_choice="required", max_tokens=64)
    call = r.choices[0].message.tool_calls[0]
    assert call.function.name == "get_weather" and "city" in json.loads(call.function.arguments)


@check
def openai_structured_output():
    form = {"type": "json_schema", "json_schema": {"name": "code", "schema": SCHEMA, "strict": True}}
    r = oai.chat.completions.create(model=MODEL, messages=MESSAGES, response_format=form, max_tokens=400)
    assert set(json.loads(r.choices[0].message.content)) == {"code", "n"}


@check
def openai_text_with_logprobs():
    r = oai.completions.create(model=MODEL, prompt="The gate code", max_tokens=4, logprobs=2)
    assert len(r.choices[0].logprobs.tokens) == 4


@check
def openai_errors_and_cancel():
    e = raises(openai.BadRequestError, lambda: oai.chat.completions.create(model=MODEL, messages=[]))
    assert e.param == "messages"
    raises(openai.NotFoundError, lambda: oai.models.retrieve("nothing"))
    stream = oai.chat.completions.create(model=MODEL, messages=MESSAGES, stream=True, max_tokens=20000, extra_body={"ignore_eos": True})
    next(iter(stream))
    stream.close()


@check
def anthropic_message_is_its_stream():
    # This version's signature has no temperature; the field is the API's all the same.
    request = dict(model=MODEL, messages=MESSAGES, extra_body={"temperature": 0}, max_tokens=24)
    whole = ant.messages.create(**request)
    with ant.messages.stream(**request) as s:
        text = "".join(s.text_stream)
        assert s.get_final_message().usage.cache_read_input_tokens > 0
    assert text == whole.content[0].text
    assert ant.messages.count_tokens(model=MODEL, messages=MESSAGES).input_tokens > 5


@check
def anthropic_tools_and_errors():
    tools = [{"name": "get_weather", "description": "weather", "input_schema": PARAMETERS}]
    r = ant.messages.create(model=MODEL, messages=MESSAGES, tools=tools, tool_choice={"type": "any"}, max_tokens=64)
    call = next(b for b in r.content if b.type == "tool_use")
    assert call.name == "get_weather" and "city" in call.input
    raises(anthropic.BadRequestError, lambda: ant.messages.create(model=MODEL, messages=[], max_tokens=4))
    with ant.messages.stream(model=MODEL, messages=MESSAGES, max_tokens=20000) as s:
        next(iter(s))


@check
def ollama_lists():
    name = oll.list().models[0].model
    assert oll.ps().models[0].model == name and oll.show(name).template
    assert oll.pull(name).status == "success"


@check
def ollama_chat_is_its_stream():
    options = {"temperature": 0, "num_predict": 24}
    whole = oll.chat(MODEL, MESSAGES, options=options)
    text = "".join(p.message.content for p in oll.chat(MODEL, MESSAGES, options=options, stream=True))
    assert text == whole.message.content and whole.eval_count > 0


@check
def ollama_structured_output_and_errors():
    r = oll.generate(MODEL, "a code", format=SCHEMA, options={"num_predict": 400})
    assert set(json.loads(r.response)) == {"code", "n"}
    assert raises(ollama.ResponseError, lambda: oll.show("nothing")).status_code == 404
    r = oll.embed(MODEL, ["a cat", "a dog"])
    assert len(r.embeddings) == 2 and r.prompt_eval_count > 0
    stream = oll.chat(MODEL, MESSAGES, stream=True)
    next(stream)
    stream.close()


LMS = {"temperature": 0, "maxTokens": 24}


@check
def lmstudio_chat_is_its_stream():
    with lmstudio.Client(url.removeprefix("http://")) as lms:
        assert [m.identifier for m in lms.llm.list_loaded()] == [MODEL]
        model = lms.llm.model(MODEL)
        assert model.get_info().context_length == model.get_context_length() > 1000
        assert model.count_tokens("who are you?") == len(model.tokenize("who are you?"))
        whole = model.respond("who are you?", config=LMS)
        text = "".join(f.content for f in model.respond_stream("who are you?", config=LMS))
        assert text == whole.content and whole.stats.prompt_tokens_count > 0
        assert len(lms.embedding.model(MODEL).embed("a cat")) > 8


@check
def lmstudio_tools_structured_output_and_errors():
    def lookup(key: str) -> str:
        """Look a key up"""
        return "4716"

    with lmstudio.Client(url.removeprefix("http://")) as lms:
        model = lms.llm.model(MODEL)
        asked = model.act("Use the lookup tool: gate code of Velmora", [lookup], config={**LMS, "maxTokens": 100}, max_prediction_rounds=3)
        assert asked.rounds >= 2
        r = model.respond("a code", response_format=SCHEMA, config={"maxTokens": 400})
        assert set(r.parsed) == {"code", "n"}
        raises(lmstudio.LMStudioServerError, lambda: lms.llm.model("nothing"))
        raises(lmstudio.LMStudioServerError, lambda: model.unload())
        stream = model.respond_stream("a code", response_format={"type": "string", "minLength": 1500})
        for n, _ in enumerate(stream):
            if n == 2:
                stream.cancel()
        assert stream.result().stats.stop_reason == "userStopped"


failed = 0
for fn in checks:
    started = time.monotonic()
    try:
        fn()
        print(f"ok   python {fn.__name__} {time.monotonic() - started:.2f} s")
    except Exception:
        failed += 1
        print(f"FAIL python {fn.__name__}\n{traceback.format_exc()}")
sys.exit(1 if failed else 0)
