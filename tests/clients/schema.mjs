// SPDX-License-Identifier: MIT
// schema.mjs URL — goal: what comes of a constrained request is valid by somebody else's reading of the
// schema.  Method: schemas of bounded size, sampled at temperature 1 from several seeds, in the chat and the
// responses dialect and as llama-server's json_schema; each text is parsed and validated by ajv (draft 2020-12,
// strict about formats), and a text that ajv must refuse is refused, so that it is known to look.
import Ajv from "ajv/dist/2020.js";
import addFormats from "ajv-formats";
import { check, end } from "./check.mjs";

const url = process.argv[2];
const seeds = [1, 2, 3];
const word = { type: "string", minLength: 1, maxLength: 12 };
const schemas = {
  person: {
    type: "object",
    properties: {
      name: word,
      age: { type: "integer", minimum: 0, maximum: 150 },
      tags: { type: "array", items: { enum: ["a", "b", "c"] }, minItems: 1, maxItems: 3 },
      nickname: { anyOf: [word, { type: "null" }] },
    },
    required: ["name", "age", "tags", "nickname"],
    additionalProperties: false,
  },
  pattern: {
    type: "object",
    properties: {
      id: { type: "string", pattern: "^[A-Z]{2}-[0-9]{3}$" },
      day: { type: "string", format: "date" },
      kind: { const: "row" },
    },
    required: ["id", "day", "kind"],
    additionalProperties: false,
  },
  union: {
    type: "object",
    properties: {
      shape: {
        anyOf: [
          {
            type: "object",
            properties: { kind: { const: "circle" }, radius: { type: "integer", minimum: 1, maximum: 9 } },
            required: ["kind", "radius"],
            additionalProperties: false,
          },
          {
            type: "object",
            properties: { kind: { const: "point" }, visible: { type: "boolean" } },
            required: ["kind", "visible"],
            additionalProperties: false,
          },
        ],
      },
    },
    required: ["shape"],
    additionalProperties: false,
  },
  shared: {
    $defs: { step: { type: "object", properties: { say: word }, required: ["say"], additionalProperties: false } },
    type: "object",
    properties: {
      first: { $ref: "#/$defs/step" },
      pair: { type: "array", prefixItems: [{ type: "boolean" }, { enum: [1, "two", null] }], items: false, minItems: 2 },
    },
    required: ["first", "pair"],
    additionalProperties: false,
  },
}

async function post(path, body) {
  const r = await fetch(url + path, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(body),
  })
  if (r.status !== 200) throw new Error(`${path}: HTTP ${r.status} ${await r.text()}`);
  return r.json();
}

const question = "Tell me about it as JSON.";
const ways = {
  chat: async (schema, seed) =>
    (
      await post("/v1/chat/completions", {
        messages: [{ role: "user", content: question }],
        response_format: { type: "json_schema", json_schema: { name: "it", strict: true, schema } },
        temperature: 1,
        seed,
        max_tokens: 400,
      })
    ).choices[0].message.content,
  responses: async (schema, seed) =>
    (
      await post("/v1/responses", {
        input: question,
        text: { format: { type: "json_schema", name: "it", strict: true, schema } },
        temperature: 1,
        seed,
        max_output_tokens: 400,
        store: false,
      })
    ).output[0].content[0].text,
  llama: async (schema, seed) =>
    (await post("/completion", { prompt: question, json_schema: schema, temperature: 1, seed, n_predict: 400 })).content,
}

const ajv = new Ajv({ allErrors: true, strictTuples: false });
addFormats(ajv);
for (const [name, schema] of Object.entries(schemas)) {
  const valid = ajv.compile(schema);
  await check(`${name}: ajv refuses what is not it`, () => {
    if (valid({}) || valid({ name: 7 })) throw new Error("it takes anything");
  })
  for (const [way, ask] of Object.entries(ways))
    await check(`${name} by ${way}`, async () => {
      for (const seed of seeds) {
        const text = await ask(schema, seed);
        const value = JSON.parse(text);
        if (!valid(value)) throw new Error(`seed ${seed}: ${text}: ${ajv.errorsText(valid.errors)}`);
      }
    })
}
end();
