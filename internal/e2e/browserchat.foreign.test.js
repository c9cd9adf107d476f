// examples/browserchat serving a page that isn't its own, testdata/page.html, in Chromium. The
// page's server is http://localhost:3000, so this needs port 3000.
import { before, after } from "node:test";
import assert from "node:assert/strict";
import net from "node:net";
import { fileURLToPath } from "node:url";
import { closeTab, launch, Pool } from "./browser.js";
import { enter as enterOurs, members as oursMembers, said, send, until } from "./chatpage.js";
import { test } from "./fixture.js";
import { build, start } from "./program.js";

const file = fileURLToPath(new URL("testdata/page.html", import.meta.url));
const official = fileURLToPath(new URL("node_modules/socket.io-client/dist/socket.io.js", import.meta.url));

let browser, pool, program;
before(async () => {
  await new Promise((resolve, reject) => {
    const probe = net.createServer();
    probe.once("error", (cause) => reject(new Error("port 3000 is taken, and the page under test can't use another: free it", { cause })));
    probe.listen(3000, () => probe.close(resolve));
  });
  program = build("examples/browserchat");
  browser = await launch();
  pool = new Pool(browser);
});
after(async () => {
  await browser?.close();
  program?.remove();
});

const list = (page) => page.locator("#userList li").allTextContents();
const lines = (page) => page.locator("#text p").allTextContents();

async function enter(page, name) {
  await page.fill("#account", name);
  await page.click("#in");
}

async function say(page, words) {
  await page.fill("#info", words);
  await page.click("#btn");
}

for (const { why, host, args } of [
  { why: "our script, opened as it is named", host: "localhost", args: [] },
  { why: "our script, opened by the address: another origin", host: "127.0.0.1", args: [] },
  { why: "the official script", host: "localhost", args: ["-client", official] },
]) {
  test(`a page with inline handlers and innerHTML: ${why}`, async (t) => {
    const server = await start(program, ["-addr", "127.0.0.1:3000", "-page", file, "-heartbeat", "10m", ...args]);
    t.after(() => server.stop());
    const join = async () => {
      const page = await pool.open(`http://${host}:3000/`);
      t.after(async () => assert.deepEqual(await pool.keep(page), []));
      return page;
    };
    const ann = await join();
    await enter(ann, "Ann");
    await until(() => list(ann), ["Ann (me)"]);
    const bob = await join();
    await until(() => list(bob), ["Ann"], "a newcomer's list is right before anybody moves");

    await enter(bob, "Ann");
    await until(() => lines(bob), ["you are not in"]);
    await enter(bob, "<img src=x onerror=window.stolen=1>");
    await until(() => lines(bob), ["you are not in", "you are not in"]);
    assert.deepEqual(await lines(ann), ["Ann came in"], "refusals are nobody else's business");
    await enter(bob, "Bob");
    await until(() => list(ann), ["Ann (me)", "Bob"]);

    await say(ann, "hello");
    await say(ann, "<img src=x onerror=window.stolen=1>");
    await until(() => lines(bob).then((all) => all.slice(-2)), ["Ann hello", "Ann <img src=x onerror=window.stolen=1>"]);
    await say(bob, "a & b <b>c</b>");
    await until(() => lines(ann).then((all) => all.at(-1)), "Bob a & b <b>c</b>");
    await bob.evaluate(() => socket.emit("message", { username: "Ann", message: "I never said that" }));
    await until(() => lines(ann).then((all) => all.at(-1)), "Bob I never said that");
    await bob.evaluate(() => { socket.emit("message"); socket.emit("login", { toString: 1 }); socket.emit("login", "Two"); });
    for (const page of [ann, bob]) {
      assert.deepEqual(await page.evaluate(() => [window.stolen, document.querySelectorAll("#text img, #text p > b b").length]), [undefined, 0]);
    }

    await bob.click("#out");
    await until(() => list(ann), ["Ann (me)"]);
    await until(() => lines(ann).then((all) => all.at(-1)), "Bob left");
    await bob.click("#out");
    await until(() => lines(bob).then((all) => all.at(-1)), "you are not in");
    assert.equal((await lines(ann)).at(-1), "Bob left", "leaving without having joined is not announced");

    await enter(bob, "Bob");
    await until(() => list(ann), ["Ann (me)", "Bob"]);
    await closeTab(bob);
    await until(() => list(ann), ["Ann (me)"], "a closed tab leaves at once");
  });
}

test("our own page with the official script in the place of ours", async (t) => {
  const server = await start(program, ["-addr", "127.0.0.1:0", "-client", official]);
  t.after(() => server.stop());
  const pages = [await pool.open(server.url), await pool.open(server.url)];
  const [ann, bob] = pages;
  await enterOurs(ann, "Ann");
  await enterOurs(bob, "Bob");
  for (const page of pages) await until(() => oursMembers(page), ["Ann", "Bob"]);
  await send(ann, "hello");
  await until(() => said(bob), [["Ann", "hello"]]);
  await send(bob, "hi");
  await until(() => said(ann), [["Ann", "hello"], ["Bob", "hi"]]);
  assert.deepEqual(await Promise.all(pages.map((page) => pool.keep(page))), [[], []]);
});
