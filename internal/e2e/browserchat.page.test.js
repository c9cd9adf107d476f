// examples/browserchat in Chromium: several people on our own page.
import { before, after } from "node:test";
import assert from "node:assert/strict";
import { stat } from "node:fs/promises";
import { closeTab, launch, open, Pool } from "./browser.js";
import { enter, link, login, members, rows, said, send, until, upgraded } from "./chatpage.js";
import { test } from "./fixture.js";
import { build, start } from "./program.js";
import { startProxy } from "./proxy.js";

let browser, pool, program;
before(async () => {
  program = build("examples/browserchat");
  browser = await launch();
  pool = new Pool(browser);
});
after(async () => {
  await browser.close();
  program.remove();
});

// chat runs the program and gives join(), a page of another browser profile on it each time.
async function chat(t, ...args) {
  const server = await start(program, ["-addr", "127.0.0.1:0", ...args]);
  const pages = [];
  t.after(async () => {
    for (const [page, pooled] of pages) {
      if (!pooled) await page.context().close();
      assert.deepEqual(pooled ? await pool.keep(page) : page.wrong, []);
    }
    await server.stop();
  });
  const join = async (options, url = server.url) => {
    const page = options ? await open(browser, url, options) : await pool.open(url);
    pages.push([page, !options]);
    await until(() => link(page), "on");
    return page;
  };
  return { server, join };
}

test("two people and a spectator: lists, messages both ways, markup is text", async (t) => {
  const { join } = await chat(t);
  const ann = await join();
  await enter(ann, "Ann");
  await until(() => members(ann), ["Ann"]);
  const bob = await join();
  await until(() => members(bob), ["Ann"], "a newcomer's list is right before anybody moves");
  await enter(bob, "Bob");
  const carl = await join();
  for (const page of [ann, bob, carl]) await until(() => members(page), ["Ann", "Bob"]);
  assert.equal(await ann.locator("#userList .own").innerText().then((text) => text.includes("you")), true);

  const attacks = [
    "<img src=x onerror='window.stolen=1'>",
    "<script>window.stolen=1</script>",
    "</span><svg onload=window.stolen=1>",
    "&lt;b&gt; & \"quotes\"",
  ];
  const want = [];
  for (const [i, words] of ["hello", "ü 你好 🙂", ...attacks].entries()) {
    const [from, name] = i % 2 ? [bob, "Bob"] : [ann, "Ann"];
    await send(from, words);
    want.push([name, words]);
    for (const page of [ann, bob, carl]) await until(() => said(page), want);
  }
  for (const page of [ann, bob, carl]) {
    const seen = await page.evaluate(() => [window.stolen, document.querySelectorAll("#text img, #text script, #text svg, #text b").length]);
    assert.deepEqual(seen, [undefined, 0]);
  }
});

test("a name is refused to the one who asks, and its holder isn't disturbed", async (t) => {
  const { join } = await chat(t);
  const ann = await join();
  await enter(ann, "Ann");
  const before = await rows(ann);
  const bob = await join();
  for (const [name, why] of [["Ann", "taken"], ["ann", "taken in another case"], ["Ａnn", "taken in full width"], ["a\u200bnn", "not a name"]]) {
    await login(bob, name);
    await until(() => bob.locator("#hint").innerText().then((text) => text.includes("refused")), true, why);
    assert.equal(await bob.locator("#sendForm").isVisible(), false, why);
    await bob.locator("#account").fill("");
    await bob.locator("#account").press("Enter"); // "Please enter a name."
  }
  assert.deepEqual(await members(ann), ["Ann"]);
  await enter(bob, "Bob");
  await until(() => members(ann), ["Ann", "Bob"]);
  assert.deepEqual(await rows(ann), [...before, "Bob joined."]);
  await send(ann, "still here");
  await until(() => said(bob), [["Ann", "still here"]]);
});

test("logout, a closed tab and a reload leave at once", async (t) => {
  const { join } = await chat(t, "-heartbeat", "10m"); // so that nothing else can have noticed
  const ann = await join();
  await enter(ann, "Ann");
  const bob = await join();
  await enter(bob, "Bob");
  const carl = await join();
  await enter(carl, "Carl");
  await until(() => members(ann), ["Ann", "Bob", "Carl"]);
  await bob.locator("#leave").click();
  await until(() => members(ann), ["Ann", "Carl"]);
  await until(() => members(bob), ["Ann", "Carl"], "who left still watches");
  await enter(bob, "Bob");
  await until(() => members(ann), ["Ann", "Carl", "Bob"]);
  await bob.reload();
  await until(() => members(ann), ["Ann", "Carl"]);
  await until(() => link(bob), "on");
  await enter(bob, "Bob");
  await until(() => members(ann), ["Ann", "Carl", "Bob"]);
  await closeTab(carl);
  await until(() => members(ann), ["Ann", "Bob"]);
  assert.deepEqual((await rows(ann)).filter((row) => /left/.test(row)), ["Bob left.", "Bob left.", "Carl left."]);
});

test("a tab that polls leaves at once when it is closed", async (t) => {
  const { join } = await chat(t, "-heartbeat", "10m"); // so that nothing else can have noticed
  const ann = await join();
  await enter(ann, "Ann");
  const carl = await join();
  await carl.addInitScript(() => { delete globalThis.WebSocket; });
  await carl.reload();
  await until(() => link(carl), "on");
  await enter(carl, "Carl");
  await until(() => members(ann), ["Ann", "Carl"]);
  const requests = [];
  carl.on("request", (request) => requests.push(request.url()));
  await send(carl, "bye");
  await until(() => said(ann).then((all) => all.length), 1);
  await until(() => carl.locator("#text .own[data-state=ok], #text .own[data-state=seen]").count(), 1);
  assert(requests.length > 0 && requests.every((url) => url.includes("transport=polling")), requests.join());
  await closeTab(carl);
  await until(() => members(ann), ["Ann"]);
  assert.deepEqual((await rows(ann)).filter((row) => /left/.test(row)), ["Carl left."]);
});

for (const how of ["cut", "stall"]) {
  test(`the plug is pulled (${how}) and back: nothing is missing, nothing twice, and nobody noticed`, async (t) => {
    const { server, join } = await chat(t, "-heartbeat", "2s");
    const proxy = await startProxy(server.port);
    t.after(() => proxy.close());
    const ann = await join();
    await enter(ann, "Ann");
    const bob = await join(undefined, `http://127.0.0.1:${proxy.port}/`);
    await enter(bob, "Bob");
    await until(() => members(ann), ["Ann", "Bob"]);
    const quiet = (await rows(ann)).filter((row) => !Array.isArray(row));
    const want = [];
    for (const n of [1, 2]) {
      proxy[how]();
      await until(() => link(bob), "off");
      await send(bob, `written while away ${n}`);
      await until(() => bob.locator("#text .own").last().getAttribute("data-state"), "waiting");
      for (const words of [`missed ${n}`, `missed ${n} as well`]) {
        await send(ann, words);
        want.push(["Ann", words]);
      }
      await until(() => said(ann), want);
      proxy.restore();
      await until(() => link(bob), "on");
      want.push(["Bob", `written while away ${n}`]);
      for (const page of [ann, bob]) await until(() => said(page), want);
      await until(() => bob.locator("#text .own").last().getAttribute("data-state"), "seen");
    }
    assert.deepEqual((await rows(ann)).filter((row) => !Array.isArray(row)), quiet, "nobody saw it go");
    assert.deepEqual((await rows(bob)).filter((row) => /again|missing/.test(row)), [], "there is no gap to speak of");
  });

  test(`the network is pulled (${how}) and back too late: the user comes back by itself, and is told of the gap`, async (t) => {
    const { server, join } = await chat(t, "-heartbeat", "2s", "-linger", "0");
    const proxy = await startProxy(server.port);
    t.after(() => proxy.close());
    const ann = await join();
    await enter(ann, "Ann");
    const bob = await join(undefined, `http://127.0.0.1:${proxy.port}/`);
    await enter(bob, "Bob");
    await until(() => members(ann), ["Ann", "Bob"]);
    proxy[how]();
    await until(() => link(bob), "off");
    await until(() => members(ann), ["Ann"], "a vanished one leaves within the heartbeat's bound");
    await send(bob, "kept"); // written while away
    proxy.restore();
    await until(() => link(bob), "on");
    await until(async () => [await members(ann), await members(bob)], [["Ann", "Bob"], ["Ann", "Bob"]]);
    await until(() => said(ann), [["Bob", "kept"]]);
    await until(() => rows(bob).then((all) => all.filter((row) => /may be missing/.test(row)).length), 1);
    await send(ann, "welcome back");
    await until(() => said(bob), [["Bob", "kept"], ["Ann", "welcome back"]]);
  });
}

test("a message whose answer was lost is sent again, and said once", async (t) => {
  const { server, join } = await chat(t);
  const proxy = await startProxy(server.port);
  t.after(() => proxy.close());
  const ann = await join();
  const bob = await join(undefined, `http://127.0.0.1:${proxy.port}/`);
  await enter(bob, "Bob");
  await until(() => members(ann), ["Bob"]);
  const state = () => bob.locator("#text .own").last().getAttribute("data-state");
  const want = [];
  for (const arrives of [true, false, true]) {
    await upgraded(bob);
    if (arrives) proxy.deafen();
    else proxy.stall();
    const words = `number ${want.length}`;
    await send(bob, words);
    want.push(["Bob", words]);
    if (arrives) await until(() => said(ann), want, "it has arrived");
    assert.equal(await state(), "sent", "and its page does not know");
    proxy.cut();
    await until(() => link(bob), "off");
    assert.equal(await state(), "waiting");
    proxy.restore();
    await until(state, "seen");
    for (const page of [ann, bob]) await until(() => said(page), want);
  }
});

test("a login whose answer was lost: the page finds itself logged in", async (t) => {
  const { server, join } = await chat(t);
  const proxy = await startProxy(server.port);
  t.after(() => proxy.close());
  const ann = await join();
  const bob = await join(undefined, `http://127.0.0.1:${proxy.port}/`);
  await upgraded(bob);
  proxy.deafen();
  await login(bob, "Bob");
  await until(() => members(ann), ["Bob"]);
  proxy.cut();
  await until(() => link(bob), "off");
  proxy.restore();
  await bob.locator("#sendForm").waitFor({ state: "visible" });
  await send(bob, "it is me");
  for (const page of [ann, bob]) await until(() => said(page), [["Bob", "it is me"]]);
  await until(() => bob.locator("#text .own").last().getAttribute("data-state"), "seen");
  assert.deepEqual((await rows(ann)).filter((row) => !Array.isArray(row)), ["Bob joined."]);
});

test("who logs out while away is out when the network is back, and may log in as somebody else", async (t) => {
  const { server, join } = await chat(t);
  const proxy = await startProxy(server.port);
  t.after(() => proxy.close());
  const ann = await join();
  const bob = await join(undefined, `http://127.0.0.1:${proxy.port}/`);
  for (const again of ["", "Rob"]) {
    await enter(bob, "Bob");
    await until(() => members(ann), ["Bob"]);
    proxy.cut();
    await until(() => link(bob), "off");
    await bob.locator("#leave").click();
    if (again) await login(bob, again);
    proxy.restore();
    await until(() => link(bob), "on");
    await until(() => members(ann), again ? [again] : []);
  }
  await bob.locator("#sendForm").waitFor({ state: "visible" });
  await send(bob, "hello");
  for (const page of [ann, bob]) await until(() => said(page), [["Rob", "hello"]]);
  await until(() => bob.locator("#text .own").last().getAttribute("data-state"), "seen");
});

test("the server ends: everybody is told, exit 0; another one at its address: all are back", async (t) => {
  const { server, join } = await chat(t);
  const proxy = await startProxy(server.port);
  t.after(() => proxy.close());
  const ann = await join(undefined, `http://127.0.0.1:${proxy.port}/`);
  await enter(ann, "Ann");
  assert.equal(await server.stop(), 0);
  await until(async () => ["off", "gone"].includes(await link(ann)), true);
  const second = await start(program, ["-addr", "127.0.0.1:0"]);
  t.after(() => second.stop());
  proxy.target = second.port;
  if ((await link(ann)) === "gone") {
    await ann.locator("#reconnect").click();
    await until(() => link(ann), "on");
    await enter(ann, "Ann");
  }
  await until(() => link(ann), "on");
  await until(() => members(ann), ["Ann"]);
});

test("the server is killed and comes up again: the user is back by itself, and what it wrote is said", async (t) => {
  const { server, join } = await chat(t);
  const proxy = await startProxy(server.port);
  t.after(() => proxy.close());
  const ann = await join(undefined, `http://127.0.0.1:${proxy.port}/`);
  await enter(ann, "Ann");
  await server.kill();
  await until(() => link(ann), "off");
  await send(ann, "into the silence");
  const second = await start(program, ["-addr", "127.0.0.1:0"]);
  t.after(() => second.stop());
  proxy.target = second.port;
  await until(() => link(ann), "on");
  await until(() => members(ann), ["Ann"]);
  await until(() => ann.locator("#text .own").last().getAttribute("data-state"), "seen");
  assert.deepEqual(await said(ann), [["Ann", "into the silence"]]);
});

test("the page by its user's language: Chinese, English, else Chinese", async (t) => {
  const { join } = await chat(t);
  for (const [locale, lang, label] of [["zh-TW", "zh-CN", "登陆"], ["en-GB", "en", "Log in"], ["de-DE", "zh-CN", "登陆"]]) {
    const page = await join({ locale });
    assert.deepEqual(await page.evaluate(() => [document.documentElement.lang, document.querySelector("#loginForm button").textContent]), [lang, label], locale);
    await closeTab(page);
  }
});

// A conversation for the pictures, and for how much fits.
const conversation = [
  ["Mei", "早上好！The room is open."],
  ["Jonas", "Good morning. Did the new build go out?"],
  ["Mei", "Yes, last night. Reconnects are much quicker now."],
  ["Jonas", "Nice. I pulled the cable to see: it came back by itself, and nothing was missing."],
  ["Amira", "Same here, on the train, through three tunnels 🚆"],
  ["Mei", "And <b>markup</b> stays text, as it should."],
];

test("desktop and phone: nothing is cut off, the log keeps to its end; pictures are taken", async (t) => {
  const { join } = await chat(t);
  const desktop = await join({ viewport: { width: 1000, height: 640 }, colorScheme: "light" });
  const phone = await join({ viewport: { width: 390, height: 844 }, deviceScaleFactor: 2, isMobile: true, hasTouch: true, colorScheme: "dark" });
  const third = await join();
  const people = { Mei: desktop, Jonas: phone, Amira: third };
  for (const [name, page] of Object.entries(people)) await enter(page, name);
  for (const [i, [name, words]] of conversation.entries()) {
    await send(people[name], words);
    await until(() => said(desktop).then((all) => all.length), i + 1);
  }
  for (const page of [desktop, phone]) {
    await until(() => said(page), conversation);
    assert.deepEqual(await page.evaluate(() => {
      const root = document.documentElement;
      const outside = [...document.querySelectorAll("button, input, textarea, .what")].filter((e) => {
        const box = e.getBoundingClientRect();
        return box.width > 0 && (box.left < 0 || box.right > root.clientWidth);
      });
      return { wide: root.scrollWidth > root.clientWidth, tall: root.scrollHeight > root.clientHeight, outside: outside.length };
    }), { wide: false, tall: false, outside: 0 });
  }
  // SCREENSHOT and SCREENSHOT_PHONE are where to keep them; the README shows the first.
  const picture = process.env.SCREENSHOT || `${program.path}-desktop.png`;
  await desktop.screenshot({ path: picture });
  await phone.screenshot({ path: process.env.SCREENSHOT_PHONE || `${program.path}-phone.png` });
  const { size } = await stat(picture);
  assert.ok(size > 5_000 && size < 300_000, `the picture has ${size} bytes`);

  for (let n = 0; n < 40; n++) conversation.push(["Amira", `line ${n}`]);
  for (const [, words] of conversation.slice(6)) await send(third, words);
  await until(() => said(phone), conversation);
  const fromEnd = (page) => page.locator("#text").evaluate((log) => Math.round(log.scrollHeight - log.scrollTop - log.clientHeight));
  await until(() => fromEnd(phone).then((px) => px < 8), true, "the log keeps to its end");
  await phone.locator("#text").evaluate((log) => { log.scrollTop = 0; });
  await until(() => phone.locator("#text").evaluate((log) => log.scrollTop), 0);
  await send(third, "one more");
  await until(() => phone.locator("#newer").innerText(), "1 new message");
  assert.equal(await phone.locator("#text").evaluate((log) => log.scrollTop), 0, "who scrolled up is left there");
});
