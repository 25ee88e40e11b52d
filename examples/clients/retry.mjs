// A POST that is safe to retry: `node retry.mjs http://127.0.0.1:3000`, or in a browser.

import { randomUUID } from "node:crypto"; // in a browser: `crypto.randomUUID()`

export async function post(url, body, key, tries = 6) {
  for (let tried = 1; ; tried++) {
    let pause = 100 * 2 ** tried * Math.random(); // ms
    try {
      const response = await fetch(url, {
        method: "POST",
        headers: { "content-type": "application/json", "idempotency-key": key },
        body,
        signal: AbortSignal.timeout(30_000),
      });
      const after = response.headers.get("retry-after");
      const retry = after || response.status === 429 || response.status >= 500;
      if (!retry || tried === tries) return response;
      pause = Math.max(pause, Number(after) * 1000 || 0);
    } catch (error) {
      if (tried === tries) throw error; // no answer: it may have run
    }
    await new Promise((resolve) => setTimeout(resolve, pause));
  }
}

// One key and one text for all tries.
const key = randomUUID();
const body = JSON.stringify({ email: "ada@example.com", entityName: "Ada Ltd" });
const response = await post(`${process.argv[2]}/downstream-entities/onboarding/invite`, body, key);
const replayed = response.headers.get("idempotent-replayed") ?? "false";
console.log(response.status, replayed, (await response.json()).id);
