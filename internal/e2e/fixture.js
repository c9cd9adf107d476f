// What the tests of socketio/client.js have in common: one Chromium and page a file, and a
// server a test, behind a network that can be pulled.
import { before, after, test as nodeTest } from "node:test";
import assert from "node:assert/strict";
import { launch, open } from "./browser.js";
import { startOfficial } from "./official.js";
import { startProxy } from "./proxy.js";

// test is node:test's, but ends one that hangs and goes on with the next.
export const test = (name, fn) => nodeTest(name, { timeout: 60_000 }, fn);

// fixture returns setUp(t, options), which gives the official server with these options, the
// proxy before it, its url, and the page, opened there. In the end it checks that nothing
// went wrong in the page.
export function fixture() {
  let browser, page;
  before(async () => {
    browser = await launch();
    page = await open(browser, "about:blank");
  });
  after(() => browser.close());

  return async function setUp(t, options) {
    const server = await startOfficial(options);
    const proxy = await startProxy(server.port);
    const url = `http://127.0.0.1:${proxy.port}/`;
    await page.goto(url);
    t.after(async () => {
      await page.goto("about:blank");
      page.removeAllListeners("request");
      page.removeAllListeners("websocket");
      await proxy.close();
      await server.close();
      assert.deepEqual(page.wrong.splice(0), []);
    });
    return { browser, page, server, proxy, url };
  };
}
