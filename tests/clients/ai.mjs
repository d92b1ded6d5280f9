// SPDX-License-Identifier: MIT
// ai.mjs URL — npm's ai with @ai-sdk/openai-compatible against a running server.
import assert from "node:assert/strict";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { APICallError, generateObject, generateText, isStepCount, jsonSchema, streamObject, streamText, tool } from "ai";
import { cancelled, check, checkCode, end, schema } from "./check.mjs";

globalThis.AI_SDK_LOG_WARNINGS = false;
const url = process.argv[2];
const provider = createOpenAICompatible({
  name: "kvasir", baseURL: `${url}/v1`, includeUsage: true, supportsStructuredOutputs: true,
});
const common = { model: provider("skald"), maxRetries: 0 };
const prompt = "who are you?";

await check("ai generateText = streamText", async () => {
  const request = { ...common, prompt, temperature: 0, maxOutputTokens: 24 };
  const whole = await generateText(request);
  const stream = streamText(request);
  let text = "";
  for await (const piece of stream.textStream) text += piece;
  assert.equal(text, whole.text);
  assert.ok(text.length > 10);
  assert.equal(await stream.finishReason, whole.finishReason);
  const usage = await stream.usage;
  assert.equal(usage.outputTokens, whole.usage.outputTokens);
  assert.equal(usage.inputTokenDetails.cacheReadTokens, usage.inputTokens); // the same once more
});
const tools = {
  get_weather: tool({
    description: "The weather of a city",
    inputSchema: jsonSchema({ type: "object", properties: { city: { type: "string", maxLength: 12 } }, required: ["city"] }),
    execute: async ({ city }) => ({ city, celsius: -3 }),
  }),
};
const loop = {
  ...common, prompt, tools, temperature: 0, maxOutputTokens: 64, stopWhen: isStepCount(2),
  prepareStep: ({ stepNumber }) => ({ toolChoice: stepNumber === 0 ? "required" : "none" }),
};
// What the model was given and wrote in the first step is known in the second, to the last token.
function checkSteps(steps) {
  assert.equal(steps.length, 2);
  assert.equal(steps[0].toolCalls[0].toolName, "get_weather");
  assert.equal(steps[0].toolResults[0].output.celsius, -3);
  assert.equal(steps[1].toolCalls.length, 0);
  assert.ok(steps[1].text.length > 0);
  assert.ok(steps[1].usage.inputTokenDetails.cacheReadTokens >= steps[0].usage.totalTokens);
}
await check("ai tool loop", async () => checkSteps((await generateText(loop)).steps));
await check("ai tool loop, streamed", async () => {
  const stream = streamText(loop);
  const kinds = new Set();
  for await (const part of stream.fullStream) kinds.add(part.type);
  for (const kind of ["tool-input-start", "tool-input-delta", "tool-call", "tool-result", "text-delta", "finish"]) assert.ok(kinds.has(kind), kind);
  checkSteps(await stream.steps);
});
await check("ai generateObject, streamObject", async () => {
  const request = { ...common, prompt: "a code", schema: jsonSchema(schema), maxOutputTokens: 400 };
  checkCode((await generateObject(request)).object);
  const stream = streamObject(request);
  let last;
  for await (const partial of stream.partialObjectStream) last = partial;
  checkCode(last);
  assert.deepEqual(last, await stream.object);
});
await check("ai errors", async () => {
  const data = new Uint8Array([1, 2, 3]);
  await assert.rejects(generateText({ ...common, messages: [{ role: "user", content: [{ type: "file", data, mediaType: "image/png" }] }] }),
    (e) => APICallError.isInstance(e) && e.statusCode === 400 && e.message.startsWith("messages[0].content[0]"));
});
await check("ai abort", () => cancelled(async () => {
  const abort = new AbortController();
  const stream = streamText({ ...common, prompt, abortSignal: abort.signal, maxOutputTokens: 20000 });
  const kinds = [];
  for await (const part of stream.fullStream) {
    kinds.push(part.type);
    if (part.type === "text-delta") abort.abort();
  }
  assert.equal(kinds.at(-1), "abort");
}));
end();
