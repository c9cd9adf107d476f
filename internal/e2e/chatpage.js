// A chat page as its user sees it: what the tests do there and what they read. It knows the
// element ids of the original page, which ours keeps.
import assert from "node:assert/strict";
import { isDeepStrictEqual } from "node:util";

// until waits until read(), asked again and again, gives want; then it returns. It fails with
// the difference after 20 s.
export async function until(read, want, why) {
  const deadline = Date.now() + 20_000;
  for (;;) {
    const got = await read();
    if (isDeepStrictEqual(got, want)) return;
    if (Date.now() > deadline) assert.deepEqual(got, want, why);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

// members reads the list of users.
export const members = (page) => page.locator("#userList li .who").allTextContents();

// rows reads the log: what was said as [name, words], all else as its text.
export const rows = (page) => page.locator("#text > .row").evaluateAll((rows) => rows.map((row) => {
  const part = (name) => row.querySelector(":scope > ." + name)?.textContent;
  return part("who") === undefined ? part("what") : [part("who"), part("what")];
}));

// said is the messages among the rows.
export const said = async (page) => (await rows(page)).filter(Array.isArray);

// link is the state of the connection: connecting, on, off or gone.
export const link = (page) => page.locator("body").getAttribute("data-link");

// upgraded waits until the connection is a WebSocket: until then it is two, of which one may be cut off unnoticed.
export const upgraded = (page) => until(() => page.evaluate(() => socket.io.engine.transport.name), "websocket");

// login tries a name, without waiting for what comes of it.
export async function login(page, name) {
  await page.locator("#account").fill(name);
  await page.locator("#account").press("Enter");
}

// enter is a login that succeeds.
export async function enter(page, name) {
  await login(page, name);
  await page.locator("#sendForm").waitFor({ state: "visible" });
}

export async function send(page, words) {
  await page.locator("#info").fill(words);
  await page.locator("#info").press("Enter");
}
