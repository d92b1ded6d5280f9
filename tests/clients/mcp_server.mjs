// SPDX-License-Identifier: MIT
// mcp_server.mjs — a server of tools over stdin and stdout, for mcp.mjs.
import { McpServer } from "@modelcontextprotocol/sdk/server/mcp.js";
import { StdioServerTransport } from "@modelcontextprotocol/sdk/server/stdio.js";
import { z } from "zod";

const server = new McpServer({ name: "weather", version: "1.0.0" });
let n_calls = 0;
server.registerTool("forecast", {
  description: "The weather of a city in the next days",
  inputSchema: z.strictObject({ city: z.enum(["Oslo", "Rome", "Wren"]), days: z.number().int().min(1).max(3) }),
}, async ({ city, days }) => ({
  content: [{ type: "text", text: `call ${++n_calls}: ${city}, ${days} days: snow` }],
}));
await server.connect(new StdioServerTransport());
