// socketio/client.js in Chromium against the official server: what happens when the network,
// the server or the page goes away.
import assert from "node:assert/strict";
import { once } from "node:events";
import { closeTab, open } from "./browser.js";
import { fixture, test } from "./fixture.js";
import { startOfficial } from "./official.js";

const setUp = fixture();

const kinds = [["polling"], ["websocket"], ["polling", "websocket"]];

// connect puts a connected socket into the page, upgraded if it will be, that comes back
// quickly, and keeps what it fires in the page's log.
async function connect(page, options) {
  await page.evaluate(async (options) => {
    globalThis.log = [];
    globalThis.socket = io({ reconnectionDelay: 5, reconnectionDelayMax: 50, ...options });
    socket.on("connect", () => log.push("connect"));
    socket.on("disconnect", (reason) => log.push(reason));
    if (options.transports.length > 1) await next(socket.io.engine, "upgrade");
    await (socket.connected || next(socket, "connect"));
    globalThis.gone = next(socket, "disconnect");
  }, options);
}

for (const transports of kinds) {
  test(`the server is killed, and another comes up: ${transports}`, async (t) => {
    const { server, page, proxy } = await setUp(t);
    const got = [];
    const hear = (socket) => socket.on("n", (n, answer) => got.push(n) && answer?.(n));
    server.io.on("connection", hear);
    await connect(page, { transports });
    await page.evaluate(() => socket.emitWithAck("n", "before"));
    const id = await page.evaluate(() => socket.id);
    await server.kill();
    await page.evaluate(async () => {
      await gone;
      for (const n of [1, 2, 3]) socket.emit("n", n);
      await next(socket, "connect_error");
      socket.emit("n", 4);
    });
    const second = await startOfficial();
    t.after(() => second.close());
    second.io.on("connection", hear);
    proxy.target = second.port;
    const after = await page.evaluate(async () => {
      await (socket.connected || next(socket, "connect"));
      await socket.emitWithAck("n", "after");
      return { id: socket.id, log, recovered: socket.recovered };
    });
    assert.deepEqual(got, ["before", 1, 2, 3, 4, "after"]);
    assert.notEqual(after.id, id);
    assert.ok(["transport close", "transport error"].includes(after.log[1]), after.log[1]);
    assert.deepEqual([after.log.length, after.log[2], after.recovered], [3, "connect", false]);
  });

  test(`the session is one that another server doesn't know: ${transports}`, async (t) => {
    const { server, page, proxy } = await setUp(t);
    await connect(page, { transports });
    const second = await startOfficial();
    t.after(() => second.close());
    proxy.target = second.port;
    proxy.cut();
    proxy.restore();
    await page.evaluate(async () => {
      await gone;
      await (socket.connected || next(socket, "connect"));
    });
    assert.equal((await second.io.fetchSockets()).length, 1);
    assert.equal(server.io.engine.clientsCount <= 1, true);
  });

  test(`a network that swallows everything is noticed by the missing ping: ${transports}`, async (t) => {
    const { page, proxy } = await setUp(t, { pingInterval: 300, pingTimeout: 600_000 });
    // The one timer of the length pingInterval + pingTimeout runs when the test says so.
    await page.evaluate(() => {
      const { setTimeout: set, clearTimeout: clear } = globalThis;
      globalThis.watches = [];
      globalThis.setTimeout = (fn, ms, ...rest) => (ms === 600_300 ? watches.push(fn) * -1 : set(fn, ms, ...rest));
      globalThis.clearTimeout = (id) => (id < 0 ? delete watches[-id - 1] : clear(id));
    });
    await connect(page, { transports });
    await page.evaluate(async () => { for (let i = 0; i < 3; i++) await next(socket.io, "ping"); });
    proxy.stall();
    const got = await page.evaluate(async () => {
      const set = Object.values(watches);
      set[0]();
      return [set.length, watches.length >= 4, (await gone)[0]];
    });
    assert.deepEqual(got, [1, true, "ping timeout"]);
    proxy.restore();
    assert.equal(await page.evaluate(async () => socket.connected || (await next(socket, "connect"), socket.connected)), true);
  });

  test(`recovery brings what was missed, each once, as often as it is needed: ${transports}`, async (t) => {
    const { server, page, proxy } = await setUp(t, { connectionStateRecovery: {} });
    const rooms = [];
    let there;
    server.io.on("connection", (socket) => {
      there = socket;
      if (!socket.recovered) socket.join("room");
      rooms.push([socket.recovered, socket.rooms.has("room")]);
    });
    await connect(page, { transports });
    const id = await page.evaluate(() => {
      globalThis.got = [];
      socket.on("n", (...args) => got.push(args[0]));
      return socket.id;
    });
    server.io.emit("n", 0);
    await page.evaluate(() => got.length || next(socket, "n"));
    for (const round of [1, 2, 3]) {
      // Between two polls the official server would not notice the cut, and it recovers only what it has noticed. In the
      // middle of an upgrade there is no next poll.
      const { conn } = there;
      if (transports.length > 1 && conn.transport.name === "polling") await once(conn, "upgrade");
      if (!conn.transport.writable) await once(conn.transport, "ready");
      const noticed = once(there, "disconnect");
      proxy.cut();
      await page.evaluate(() => gone);
      await noticed;
      for (const n of [1, 2, 3]) server.io.to("room").emit("n", round * 10 + n);
      await page.evaluate(() => { globalThis.back = next(socket, "connect"); });
      proxy.restore();
      const state = await page.evaluate(async () => {
        await back;
        globalThis.gone = next(socket, "disconnect");
        return [socket.recovered, socket.id];
      });
      assert.deepEqual(state, [true, id], `round ${round}`);
    }
    server.io.emit("n", "last");
    const got = await page.evaluate(async () => {
      while (got.at(-1) !== "last") await next(socket, "n");
      return got;
    });
    assert.deepEqual(got, [0, 11, 12, 13, 21, 22, 23, 31, 32, 33, "last"]);
    assert.deepEqual(rooms, [[false, true], [true, true], [true, true], [true, true]]);
  });

  for (const how of ["closed", "reloaded", "left"]) {
    test(`a page that is ${how} says goodbye: ${transports}`, async (t) => {
      const { browser, page, server, url } = await setUp(t);
      const tab = how === "closed" ? await open(browser, url) : page;
      if (tab !== page) t.after(() => tab.context().close());
      const connection = once(server.io, "connection");
      await connect(tab, { transports });
      const [socket] = await connection;
      const packets = [];
      socket.conn.on("packet", ({ type, data }) => type === "message" && packets.push(data));
      const ended = once(socket, "disconnect");
      // On polling a goodbye can't overtake a POST that is still on its way, nor wait for it. And where the browser cuts
      // the hanging GET first, the official server ends the session for that: so look at what is posted.
      const polling = transports.join() === "polling";
      const goodbye = new Promise((resolve) => server.http.prependListener("request", (request) => {
        if (request.method !== "POST") return;
        let body = "";
        request.on("data", (bytes) => { body += bytes; });
        request.on("end", () => body === "41\x1e1" && resolve());
      }));
      const posted = polling && tab.waitForResponse((response) => response.request().method() === "POST");
      await tab.evaluate(() => { socket.emit("last words"); });
      if (polling) await (await posted).finished();
      if (how === "closed") await closeTab(tab);
      else if (how === "reloaded") await tab.reload();
      else await tab.goto(url + "other");
      await ended;
      if (polling) await goodbye;
      else assert.deepEqual(packets.slice(-1), ["1"]);
    });
  }
}

test("a page that comes back from the browser's cache connects again", async (t) => {
  const { browser, server, url } = await setUp(t);
  const tab = await open(browser, url);
  t.after(() => tab.context().close());
  const connection = once(server.io, "connection");
  await connect(tab, { transports: ["websocket"] });
  await tab.evaluate(() => {
    addEventListener("pageshow", (event) => log.push("persisted " + event.persisted));
    socket.on("connect", () => socket.emit("log", log));
  });
  const [first] = await connection;
  const left = once(first, "disconnect");
  await tab.goto(url + "other");
  await left;
  const again = once(server.io, "connection");
  await tab.evaluate(() => history.back());
  const [second] = await again;
  const [log] = await once(second, "log");
  assert.deepEqual(log, ["connect", "transport close", "persisted true", "connect"]);
});

for (const { why, onupgrade } of [
  { why: "is refused", onupgrade: (socket) => socket.destroy() },
  { why: "is never answered", onupgrade: (socket, t) => t.after(() => socket.destroy()) },
]) {
  test(`a WebSocket that ${why} leaves polling as it is`, async (t) => {
    const { server, page } = await setUp(t);
    server.http.removeAllListeners("upgrade");
    const tried = new Promise((resolve) => server.http.on("upgrade", (request, socket) => { onupgrade(socket, t); resolve(); }));
    server.io.on("connection", (socket) => socket.on("n", (n, answer) => answer(n)));
    await page.evaluate(() => { globalThis.socket = io(); });
    await tried;
    const got = await page.evaluate(async () => [
      await socket.emitWithAck("n", 1),
      await socket.emitWithAck("n", 2),
      socket.io.engine.transport.name,
      (socket.disconnect(), socket.connected),
    ]);
    assert.deepEqual(got, [1, 2, "polling", false]);
  });
}

test("a WebSocket that dies in the middle of the upgrade loses nothing", async (t) => {
  const { browser, server, url } = await setUp(t);
  const up = [];
  server.io.on("connection", (socket) => socket.on("n", (n, answer) => {
    up.push(n);
    answer();
    socket.emit("n", n);
  }));
  const tab = await open(browser, "about:blank");
  t.after(() => tab.context().close());
  // The probe is answered, and before polling is let go the WebSocket is gone. It is answered while a poll hangs: one that
  // brings something in between, such as the answer to CONNECT, would let go.
  let connected;
  const pollHangs = new Promise((resolve) => { connected = resolve; });
  await tab.routeWebSocket(/transport=websocket/, (ws) => ws.onMessage(async (packet) => {
    await pollHangs;
    if (packet === "2probe") ws.send("3probe");
    ws.close();
  }));
  await tab.goto(url);
  await tab.evaluate(async () => {
    globalThis.socket = io();
    globalThis.failed = next(socket.io.engine, "upgradeError");
    await next(socket, "connect");
  });
  connected();
  const got = await tab.evaluate(async () => {
    const down = [];
    socket.on("n", (n) => down.push(n));
    await failed;
    for (let n = 0; n < 10; n++) socket.emit("n", n, () => {});
    await socket.emitWithAck("n", 10);
    while (down.length < 11) await next(socket, "n");
    return { down, transport: socket.io.engine.transport.name };
  });
  const want = Array.from({ length: 11 }, (_, n) => n);
  assert.deepEqual(got, { down: want, transport: "polling" });
  assert.deepEqual(up, want);
});

test("a connection that doesn't open in time is a connect_error", async (t) => {
  const { page, proxy } = await setUp(t);
  proxy.stall();
  const got = await page.evaluate(async () => {
    const errors = [];
    for (const transports of [["polling"], ["websocket"]]) {
      const socket = io({ transports, timeout: 50, forceNew: true });
      errors.push((await next(socket, "connect_error"))[0].message);
      socket.disconnect();
    }
    return errors;
  });
  assert.deepEqual(got, ["timeout", "timeout"]);
});

test("delays double up to the longest, each within its jitter, no two pages alike", async (t) => {
  const { server, page } = await setUp(t);
  await server.kill();
  const runs = await page.evaluate(async () => {
    // Timers of the script are recorded and run at once.
    const real = setTimeout;
    const runs = [];
    for (let run = 0; run < 8; run++) {
      const delays = [];
      globalThis.setTimeout = (fn, ms, ...rest) => real(fn, ms === 20000 ? ms : (delays.push(ms), 0), ...rest);
      const socket = io({ forceNew: true, reconnectionAttempts: 6, transports: ["polling"] });
      await next(socket.io, "reconnect_failed");
      globalThis.setTimeout = real;
      runs.push(delays);
    }
    return runs;
  });
  const bounds = [[500, 1500], [1000, 3000], [2000, 5000], [2500, 5000], [2500, 5000], [2500, 5000]];
  for (const delays of runs) {
    assert.equal(delays.length, bounds.length);
    delays.forEach((ms, i) => assert.ok(ms >= bounds[i][0] && ms <= bounds[i][1], `delay ${i} is ${ms}`));
  }
  for (const i of bounds.keys()) assert.equal(new Set(runs.map((delays) => delays[i])).size, runs.length, `delay ${i} is not spread`);
});

test("the network comes back, or somebody looks: no waiting for the rest of the delay", async (t) => {
  const { page, proxy } = await setUp(t);
  const day = 86_400_000;
  await connect(page, { transports: ["websocket"], reconnectionDelay: day, reconnectionDelayMax: day });
  for (const event of ["online", "visibilitychange"]) {
    proxy.cut();
    await page.evaluate(() => gone);
    proxy.restore();
    await page.evaluate(async (event) => {
      const back = next(socket, "connect");
      (event === "online" ? window : document).dispatchEvent(new Event(event, { bubbles: true }));
      await back;
      globalThis.gone = next(socket, "disconnect");
    }, event);
  }
});

test("going offline is noticed at once, and coming back online too", async (t) => {
  const { page } = await setUp(t);
  await connect(page, { transports: ["websocket"] });
  await page.context().setOffline(true);
  const reason = await page.evaluate(async () => (await gone)[0]);
  await page.evaluate(async () => {
    if (!socket.connected) await next(socket, "connect_error");
    globalThis.back = socket.connected || next(socket, "connect");
  });
  await page.context().setOffline(false);
  await page.evaluate(() => back);
  assert.equal(reason, "transport close");
});

test("after a sleep an emit isn't thrown into a connection that is long dead", async (t) => {
  const { server, page } = await setUp(t);
  const ids = [];
  server.io.on("connection", (socket) => socket.on("n", (answer) => ids.push(socket.id) && answer()));
  await connect(page, { transports: ["websocket"] });
  const got = await page.evaluate(async () => {
    const { id } = socket;
    const now = Date.now;
    Date.now = () => now() + 3_600_000; // an hour has gone by, and no timer has run
    const answered = socket.emitWithAck("n");
    await answered;
    return { before: id, after: socket.id, log };
  });
  assert.notEqual(got.before, got.after);
  assert.deepEqual(ids, [got.after]);
  assert.deepEqual(got.log, ["connect", "ping timeout", "connect"]);
});

for (const { why, send, reason, transports = ["polling"] } of [
  { why: "an unknown Engine.IO type", transports: ["websocket"], send: (conn) => conn.transport.socket.send("9"), reason: "parse error" },
  { why: "an empty frame", transports: ["websocket"], send: (conn) => conn.transport.socket.send(""), reason: "parse error" },
  { why: "an unknown Socket.IO type", send: (conn) => conn.write("7"), reason: "parse error" },
  { why: "no JSON", send: (conn) => conn.write("2[1"), reason: "parse error" },
  { why: "an event without a name", send: (conn) => conn.write("2[]"), reason: "parse error" },
  { why: "a reserved name", send: (conn) => conn.write('2["connect"]'), reason: "parse error" },
  { why: "an acknowledgement without id", send: (conn) => conn.write("3[]"), reason: "parse error" },
  { why: "a placeholder that names no attachment", send: (conn) => { conn.write('51-["e",{"_placeholder":true,"num":1}]'); conn.write(Buffer.from([1])); }, reason: "parse error" },
  { why: "a placeholder that names a property", send: (conn) => { conn.write('51-["e",{"_placeholder":true,"num":"length"}]'); conn.write(Buffer.from([1])); }, reason: "parse error" },
  { why: "text in the place of an attachment", send: (conn) => { conn.write('51-["e",{"_placeholder":true,"num":0}]'); conn.write('2["e"]'); }, reason: "parse error" },
  { why: "an attachment of nothing", send: (conn) => conn.write(Buffer.from([1])), reason: "parse error" },
  { why: "a CONNECT without id", send: (conn) => conn.write("0{}"), reason: "parse error" },
  { why: "the end of the session", send: (conn) => conn.close(), reason: "transport close" },
]) {
  test(`from the server: ${why}: ${reason}, and it comes back`, async (t) => {
    const { server, page } = await setUp(t);
    const connection = once(server.io, "connection");
    await connect(page, { transports });
    const [socket] = await connection;
    await page.evaluate(() => {
      socket.on("e", () => log.push("an event"));
      globalThis.back = gone.then(() => next(socket, "connect"));
    });
    send(socket.conn);
    const log = await page.evaluate(async () => { await back; return globalThis.log; });
    assert.deepEqual(log, ["connect", reason, "connect"]);
  });
}
