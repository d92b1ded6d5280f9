// SPDX-License-Identifier: MIT
// check.mjs — what the clients' tests share: a tally, a schema, a time limit.
import assert from "node:assert/strict";

let failed = 0;
export async function check(name, fn) {
  try {
    await fn();
    console.log(`ok   ${name}`);
  } catch (e) {
    failed++;
    console.log(`FAIL ${name}: ${e.stack ?? e}`);
  }
}
export function end() {
  process.exit(failed ? 1 : 0);
}
// A request of 20000 tokens was cut short.
export async function cancelled(fn) {
  const started = Date.now();
  await fn();
  assert.ok(Date.now() - started < 10000);
}
export const schema = {
  type: "object",
  properties: { code: { type: "string", maxLength: 8 }, n: { type: "integer", minimum: 0, maximum: 9 } },
  required: ["code", "n"],
  additionalProperties: false,
};
export function checkCode(v) {
  assert.deepEqual(Object.keys(v).sort(), ["code", "n"]);
  assert.ok(Number.isInteger(v.n));
}
