// SPDX-License-Identifier: MIT
// clients.mjs URL — npm's openai, @anthropic-ai/sdk and ollama against a running server.
import assert from "node:assert/strict";
import Anthropic from "@anthropic-ai/sdk";
import { Ollama } from "ollama";
import OpenAI from "openai";
import { cancelled, check, checkCode, end, schema } from "./check.mjs";

const url = process.argv[2];
const messages = [{ role: "user", content: "who are you?" }];
const weather = {
  name: "get_weather",
  description: "The weather of a city",
  parameters: { type: "object", properties: { city: { type: "string", maxLength: 12 } }, required: ["city"] },
};

const openai = new OpenAI({ baseURL: `${url}/v1`, apiKey: "none", maxRetries: 0 });
const model = "skald";
await check("openai models", async () => {
  const list = await openai.models.list();
  assert.equal(list.data.length, 1);
  assert.equal((await openai.models.retrieve(list.data[0].id)).id, list.data[0].id);
});
await check("openai chat = its stream", async () => {
  const request = { model, messages, temperature: 0, max_tokens: 24 };
  const whole = await openai.chat.completions.create(request);
  let text = "", usage;
  for await (const c of await openai.chat.completions.create({ ...request, stream: true, stream_options: { include_usage: true } })) {
    text += c.choices[0]?.delta?.content ?? "";
    usage = c.usage ?? usage;
  }
  assert.equal(text, whole.choices[0].message.content);
  assert.ok(text.length > 10);
  assert.equal(usage.completion_tokens, whole.usage.completion_tokens);
  assert.ok(usage.prompt_tokens_details.cached_tokens >= usage.prompt_tokens - 1);
});
await check("openai tools", async () => {
  const tools = [{ type: "function", function: weather }];
  const r = await openai.chat.completions.create({ model, messages, tools, tool_choice: "required", max_tokens: 64 });
  const call = r.choices[0].message.tool_calls[0];
  assert.equal(call.function.name, "get_weather");
  assert.ok("city" in JSON.parse(call.function.arguments));
  const runner = openai.chat.completions.stream({ model, messages, tools, tool_choice: "required", max_tokens: 64 });
  const last = await runner.finalMessage();
  assert.equal(last.tool_calls[0].function.name, "get_weather");
});
await check("openai structured output", async () => {
  const r = await openai.chat.completions.create({
    model, messages, max_tokens: 400,
    response_format: { type: "json_schema", json_schema: { name: "code", schema, strict: true } },
  });
  checkCode(JSON.parse(r.choices[0].message.content));
});
await check("openai responses, stateful", async () => {
  const first = await openai.responses.create({ model, input: "who are you?", max_output_tokens: 12, temperature: 0 });
  assert.ok(first.output_text.length > 0);
  let last;
  for await (const e of await openai.responses.create({ model, input: "and then?", previous_response_id: first.id, max_output_tokens: 4, stream: true })) last = e;
  assert.ok(["response.completed", "response.incomplete"].includes(last.type));
  assert.ok(last.response.usage.input_tokens > first.usage.input_tokens);
  assert.equal((await openai.responses.retrieve(first.id)).id, first.id);
  await openai.responses.delete(first.id);
});
await check("openai errors", async () => {
  await assert.rejects(openai.chat.completions.create({ model, messages: [{ role: "user", content: [{ type: "image_url", image_url: { url: "data:," } }] }] }),
    (e) => e instanceof OpenAI.BadRequestError && e.param.startsWith("messages[0]"));
  await assert.rejects(openai.models.retrieve("nothing"), OpenAI.NotFoundError);
  await assert.rejects(openai.embeddings.create({ model, input: "" }), OpenAI.BadRequestError);
});
await check("openai embeddings", async () => {
  const r = await openai.embeddings.create({ model, input: ["a cat", "a dog", "a cat"] }); // in base64, by default
  const [a, b, c] = r.data.map((d) => d.embedding);
  assert.deepEqual(a, c);
  assert.notDeepEqual(a, b);
  assert.ok(Math.abs(a.reduce((s, x) => s + x * x, 0) - 1) < 1e-4 && r.usage.prompt_tokens > 0);
  const short = await openai.embeddings.create({ model, input: "a cat", dimensions: 8, encoding_format: "float" });
  assert.equal(short.data[0].embedding.length, 8);
});
await check("openai cancel", () => cancelled(async () => {
  const s = await openai.chat.completions.create({ model, messages, stream: true, max_tokens: 20000, ignore_eos: true });
  for await (const c of s) if (c.choices[0]?.delta?.content) { s.controller.abort(); break; }
}));

const anthropic = new Anthropic({ baseURL: url, apiKey: "none", maxRetries: 0 });
await check("anthropic message = its stream", async () => {
  const request = { model, messages, temperature: 0, max_tokens: 24 };
  const whole = await anthropic.messages.create(request);
  const stream = anthropic.messages.stream(request);
  const last = await stream.finalMessage();
  assert.equal(last.content[0].text, whole.content[0].text);
  assert.ok(last.usage.cache_read_input_tokens > 0);
  const n = await anthropic.messages.countTokens({ model, messages });
  assert.equal(n.input_tokens, whole.usage.input_tokens + whole.usage.cache_read_input_tokens + whole.usage.cache_creation_input_tokens);
});
await check("anthropic tools", async () => {
  const tools = [{ name: weather.name, description: weather.description, input_schema: weather.parameters }];
  const r = await anthropic.messages.create({ model, messages, tools, tool_choice: { type: "any" }, max_tokens: 64 });
  const call = r.content.find((b) => b.type === "tool_use");
  assert.equal(call.name, "get_weather");
  assert.ok("city" in call.input);
});
await check("anthropic errors", async () => {
  await assert.rejects(anthropic.messages.create({ model, max_tokens: 4, messages: [{ role: "user", content: [{ type: "image", source: { type: "base64", media_type: "image/png", data: "" } }] }] }),
    Anthropic.BadRequestError);
});
await check("anthropic cancel", () => cancelled(async () => {
  const s = anthropic.messages.stream({ model, messages, max_tokens: 20000 });
  for await (const e of s) if (e.type === "content_block_delta") { s.abort(); break; }
}));

const ollama = new Ollama({ host: url });
await check("ollama lists", async () => {
  const name = (await ollama.list()).models[0].name;
  assert.equal((await ollama.ps()).models[0].name, name);
  assert.ok((await ollama.show({ model: name })).template.length > 0);
  assert.equal((await ollama.pull({ model: name })).status, "success");
});
await check("ollama chat = its stream", async () => {
  const request = { model, messages, options: { temperature: 0, num_predict: 24 }, keep_alive: "5m" };
  const whole = await ollama.chat({ ...request, stream: false });
  let text = "", last;
  for await (const part of await ollama.chat({ ...request, stream: true })) {
    text += part.message.content;
    last = part;
  }
  assert.equal(text, whole.message.content);
  assert.ok(last.done && last.eval_count === whole.eval_count && last.total_duration > 0);
});
await check("ollama generate, structured output", async () => {
  const r = await ollama.generate({ model, prompt: "a code", format: schema, options: { num_predict: 400 } });
  checkCode(JSON.parse(r.response));
});
await check("ollama errors", async () => {
  await assert.rejects(ollama.show({ model: "nothing" }), (e) => e.status_code === 404);
});
await check("ollama embed", async () => {
  const r = await ollama.embed({ model, input: ["a cat", "a dog"] });
  assert.equal(r.embeddings.length, 2);
  assert.ok(r.prompt_eval_count > 0 && r.total_duration > 0);
  const old = await ollama.embeddings({ model, prompt: "a cat" });
  assert.equal(old.embedding.length, r.embeddings[0].length);
});
await check("ollama cancel", () => cancelled(async () => {
  const s = await ollama.chat({ model, messages, stream: true });
  s.abort();
  await assert.rejects(async () => { for await (const _ of s); });
}));
end();
