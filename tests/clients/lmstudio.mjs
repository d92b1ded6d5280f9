// SPDX-License-Identifier: MIT
// lmstudio.mjs URL URL2 — npm's @lmstudio/sdk over its WebSockets against running servers; the second
// has a folder with another model, "other".
import assert from "node:assert/strict";
import { LMStudioClient, rawFunctionTool } from "@lmstudio/sdk";
import { cancelled, check, checkCode, end, schema } from "./check.mjs";

const warnings = [];
const quiet = { debug() {}, info() {}, warn: (...w) => warnings.push(w.join(" ")), error: (...w) => warnings.push(w.join(" ")) };
const baseUrl = process.argv[2].replace("http", "ws");
const client = new LMStudioClient({ baseUrl, logger: quiet });
const messages = [{ role: "user", content: "who are you?" }];

await check("lmstudio lists", async () => {
  const downloaded = await client.system.listDownloadedModels();
  assert.deepEqual(downloaded.map((m) => [m.type, m.modelKey, m.format]), [["llm", "skald", "gguf"]]);
  const loaded = await client.llm.listLoaded();
  assert.deepEqual(loaded.map((m) => m.identifier), ["skald"]);
  assert.match((await client.system.getLMStudioVersion()).version, /^\d+\.\d+\.\d+$/);
});
await check("lmstudio load, info", async () => {
  const progress = [];
  const loaded = await client.llm.load("skald", { onProgress: (p) => progress.push(p), verbose: false });
  assert.equal(progress.at(-1), 1);
  const info = await loaded.getModelInfo();
  assert.equal(info.identifier, "skald");
  assert.ok(info.contextLength > 1000 && info.sizeBytes > 1000 && info.quantization.bits > 0);
  assert.equal(await loaded.getContextLength(), info.contextLength);
  assert.equal((await client.llm.model()).identifier, "skald");
  assert.equal(await client.llm.createDynamicHandle("nothing").getModelInfo(), undefined);
});
const model = await client.llm.model("skald", { verbose: false });
await check("lmstudio respond = its stream = the OpenAI dialect", async () => {
  const request = { temperature: 0, maxTokens: 24 };
  const progress = [];
  const stream = model.respond(messages, { ...request, onPromptProcessingProgress: (p) => progress.push(p) });
  let text = "", tokens = 0;
  for await (const { content, tokensCount } of stream) {
    text += content;
    tokens += tokensCount;
  }
  const last = await stream.result();
  assert.equal(last.content, text);
  assert.equal(progress.at(-1), 1);
  assert.ok(text.length > 10 && tokens > 0 && tokens <= last.stats.predictedTokensCount);
  assert.equal(last.stats.totalTokensCount, last.stats.promptTokensCount + last.stats.predictedTokensCount);
  assert.equal((await model.respond(messages, request)).content, text);
  const response = await fetch(`${process.argv[2]}/v1/chat/completions`, {
    method: "POST", body: JSON.stringify({ model: "skald", messages, temperature: 0, max_tokens: 24 }),
  });
  const other = await response.json();
  assert.equal(other.choices[0].message.content, text);
  assert.equal(other.usage.prompt_tokens, last.stats.promptTokensCount);
  const reasons = { stop: "eosFound", length: "maxPredictedTokensReached" };
  assert.equal(last.stats.stopReason, reasons[other.choices[0].finish_reason]);
});
await check("lmstudio complete, stop strings", async () => {
  const r = await model.complete("Wren is", { temperature: 0, maxTokens: 16 });
  assert.ok(r.content.length > 0);
  const n = await model.countTokens("Wren is");
  assert.ok(r.stats.promptTokensCount - n <= 1); // and BOS, where the model has one
  const stop = r.content.slice(4, 7);
  const cut = await model.complete("Wren is", { temperature: 0, maxTokens: 16, stopStrings: [stop] });
  assert.equal(cut.content, r.content.slice(0, r.content.indexOf(stop)));
  assert.equal(cut.stats.stopReason, "stopStringFound");
});
await check("lmstudio tokens, template", async () => {
  const ids = await model.tokenize("who are you?");
  assert.equal(ids.length, await model.countTokens("who are you?"));
  const formatted = await model.applyPromptTemplate(messages);
  assert.ok(formatted.includes("who are you?") && formatted.length > 20);
});
await check("lmstudio structured output", async () => {
  const r = await model.respond("a code", { structured: { type: "json", jsonSchema: schema }, maxTokens: 400 });
  checkCode(JSON.parse(r.content));
  const g = await model.respond("yes or no?", { structured: { type: "gbnf", gbnfGrammar: 'root ::= "yes" | "no"' } });
  assert.match(g.content, /^(yes|no)$/);
});
const lookup = {
  name: "lookup",
  description: "Look a key up",
  parameters: { type: "object", properties: { key: { type: "string", maxLength: 24 } }, required: ["key"], additionalProperties: false },
};
await check("lmstudio tools, forced", async () => {
  const calls = [];
  const rawTools = { type: "toolArray", force: true, tools: [{ type: "function", function: lookup }] };
  const r = await model.respond("which key?", { rawTools, maxTokens: 600, onToolCallRequestEnd: (_, { toolCallRequest }) => calls.push(toolCallRequest) });
  assert.equal(r.stats.stopReason, "toolCalls");
  assert.deepEqual(calls.map((c) => [c.name, Object.keys(c.arguments)]), [["lookup", ["key"]]]);
});
async function computedTokens() {
  return (await (await fetch(`${process.argv[2]}/v1/cache/stats`)).json()).tokens.computed;
}
await check("lmstudio act", async () => {
  const given = [], predictions = [], before = await computedTokens();
  const { parameters, ...named } = lookup;
  const tool = rawFunctionTool({ ...named, parametersJsonSchema: parameters, implementation: (args) => { given.push(args.key); return 4716; } });
  const act = await model.act("Use the lookup tool: gate code of Velmora", [tool], {
    temperature: 0, maxTokens: 100, maxPredictionRounds: 3,
    onPredictionCompleted: (p) => predictions.push(p),
  });
  assert.ok(act.rounds >= 2 && given.length >= 1 && given[0].length > 0);
  assert.equal(predictions[0].stats.stopReason, "toolCalls");
  assert.ok(predictions.at(-1).content.length > 0);
  // Each round computes what is new in its prompt only: the call that it goes on from is known.
  let fresh = predictions[0].stats.promptTokensCount;
  predictions.slice(1).forEach((p, i) => { fresh += p.stats.promptTokensCount - predictions[i].stats.totalTokensCount; });
  assert.ok(await computedTokens() - before <= fresh);
});
await check("lmstudio embeddings = the OpenAI dialect's", async () => {
  const embedder = await client.embedding.model("skald", { verbose: false });
  const { embedding } = await embedder.embed("a narrow sparrow");
  const response = await fetch(`${process.argv[2]}/v1/embeddings`, { method: "POST", body: JSON.stringify({ model: "skald", input: "a narrow sparrow" }) });
  assert.deepEqual(embedding, (await response.json()).data[0].embedding);
  assert.equal(await embedder.countTokens("a narrow sparrow"), await model.countTokens("a narrow sparrow"));
  assert.deepEqual(await embedder.tokenize("a narrow sparrow"), await model.tokenize("a narrow sparrow"));
  const both = await embedder.embed(["a narrow sparrow", "a gate"]);
  assert.deepEqual(both.map((x) => x.embedding.length), [embedding.length, embedding.length]);
  assert.deepEqual(both[0].embedding, embedding);
  const info = await embedder.getModelInfo();
  assert.deepEqual([info.identifier, info.contextLength], ["skald", await model.getContextLength()]);
});
await check("lmstudio load config; what is not served is refused by name", async () => {
  const config = await model.getLoadConfig();
  assert.ok(config.fields.some((x) => x.key.endsWith("contextLength") && x.value > 1000));
  await assert.rejects(client.repository.searchModels({ searchTerm: "gemma" }), /not|nothing/i);
  await assert.rejects(model.respond("hi", { draftModel: "other" }), /draft/i);
});
await check("lmstudio load on demand, unload", async () => {
  const many = new LMStudioClient({ baseUrl: process.argv[3].replace("http", "ws"), logger: quiet });
  assert.deepEqual((await many.system.listDownloadedModels("llm")).map((m) => m.modelKey).sort(), ["other", "skald"]);
  assert.deepEqual((await many.llm.listLoaded()).map((m) => m.identifier), ["skald"]);
  await assert.rejects(many.llm.createDynamicHandle("other").respond("x"), /No loaded model satisfies/);
  const progress = [];
  const other = await many.llm.model("other", { verbose: false, onProgress: (p) => progress.push(p) });
  assert.deepEqual([progress[0], progress.at(-1)], [0, 1]);
  assert.equal((await many.llm.listLoaded()).length, 2);
  const request = { temperature: 0, maxTokens: 24 };
  const said = (await other.respond(messages, request)).content;
  assert.equal(said, (await model.respond(messages, request)).content); // it is a copy
  const gone = async () => {
    while ((await many.llm.listLoaded()).length > 1) await new Promise((done) => setTimeout(done, 20));
  };
  await other.unload();
  await gone();
  await assert.rejects(other.respond("x"), /already been unloaded/);
  const again = await many.llm.load("other", { verbose: false, ttl: 1 });
  assert.equal((await again.respond(messages, request)).content, said);
  await gone(); // by itself
  await many[Symbol.asyncDispose]();
});
await check("lmstudio errors", async () => {
  await assert.rejects(client.llm.model("nothing", { verbose: false }), /Cannot find a model with path/);
  await assert.rejects(client.llm.createDynamicHandle("nothing").respond("x"), /No loaded model satisfies/);
  await assert.rejects(model.respond("x", { draftModel: "other" }), (e) => /draftModel: is not supported/.test(e.message));
  await assert.rejects(model.unload(), /for as long as the server runs/);
  await assert.rejects(client.files.prepareImageBase64("a.png", "AAAA"), /nothing of this name is served/);
});
await check("lmstudio cancel", () => cancelled(async () => {
  const prediction = model.respond(messages, { maxTokens: 20000, structured: { type: "gbnf", gbnfGrammar: 'root ::= [a-z ]{4000}' } });
  let n = 0;
  for await (const _ of prediction) if (++n === 2) await prediction.cancel();
  const { stats } = await prediction.result();
  assert.equal(stats.stopReason, "userStopped");
  assert.ok(stats.predictedTokensCount < 20000);
}));
await check("lmstudio no warnings", async () => assert.deepEqual(warnings, []));
end();
