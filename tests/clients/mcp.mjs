// SPDX-License-Identifier: MIT
// mcp.mjs URL — an agent's loop: tools of a real MCP server, called by the model over the OpenAI
// dialect, run by the MCP client, their results sent back.  All that was said before must come
// from the cache, however the client wrote the call down.
import assert from "node:assert/strict";
import { fileURLToPath } from "node:url";
import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { StdioClientTransport } from "@modelcontextprotocol/sdk/client/stdio.js";
import OpenAI from "openai";
import { check, end } from "./check.mjs";

const ROUNDS = 3;
const openai = new OpenAI({ baseURL: `${process.argv[2]}/v1`, apiKey: "none", maxRetries: 0 });
const mcp = new Client({ name: "kvasir-test", version: "1.0.0" });
await mcp.connect(new StdioClientTransport({
  command: process.execPath, args: [fileURLToPath(new URL("./mcp_server.mjs", import.meta.url))],
}));

async function ask(messages, tools, round, is_stream) {
  const request = { model: "skald", messages, tools, tool_choice: round < ROUNDS ? "required" : "none", max_tokens: 1000 };
  if (!is_stream) return openai.chat.completions.create(request);
  return openai.chat.completions.stream({ ...request, stream_options: { include_usage: true } }).finalChatCompletion();
}
async function loop(is_stream) {
  const tools = (await mcp.listTools()).tools.map((t) => (
    { type: "function", function: { name: t.name, description: t.description, parameters: t.inputSchema } }));
  const messages = [{ role: "user", content: is_stream ? "how will the weather be?" : "is it going to snow?" }];
  let known = 0; // tokens of the conversation so far
  for (let round = 0; round <= ROUNDS; round++) {
    const { choices, usage } = await ask(messages, tools, round, is_stream);
    assert.ok(usage.prompt_tokens_details.cached_tokens >= known, `${usage.prompt_tokens_details.cached_tokens} of ${known} cached`);
    known = usage.total_tokens;
    const message = choices[0].message;
    if (round === ROUNDS) {
      assert.ok(message.content.length > 0);
      return;
    }
    assert.equal(choices[0].finish_reason, "tool_calls");
    messages.push(message);
    for (const call of message.tool_calls) {
      const args = JSON.parse(call.function.arguments);
      const result = await mcp.callTool({ name: call.function.name, arguments: args });
      assert.ok(!result.isError, JSON.stringify(result)); // the MCP server checks the arguments
      assert.match(result.content[0].text, new RegExp(`^call \\d+: ${args.city}, ${args.days} days: snow$`));
      call.function.arguments = JSON.stringify(args, null, is_stream ? 4 : 0); // as agents re-serialise it
      messages.push({ role: "tool", tool_call_id: call.id, content: result.content[0].text });
    }
  }
}
await check("mcp agent loop", () => loop(false));
await check("mcp agent loop, streamed", () => loop(true));
await mcp.close();
end();
