// socketio/client.js in Chromium against the official server: connecting and leaving.
import assert from "node:assert/strict";
import { once } from "node:events";
import { fixture, test } from "./fixture.js";
import { startOfficial } from "./official.js";

const setUp = fixture();

for (const { why, transports, want } of [
  { why: "polling only stays polling", transports: ["polling"], want: { first: "polling", last: "polling" } },
  { why: "WebSocket only never polls", transports: ["websocket"], want: { first: "websocket", last: "websocket" } },
  { why: "by default polling comes first and is upgraded", transports: undefined, want: { first: "polling", last: "websocket" } },
]) {
  test(`transports: ${why}`, async (t) => {
    const { server, page } = await setUp(t);
    const requests = [];
    page.on("request", (r) => r.url().includes("EIO=4") && requests.push(new URL(r.url()).searchParams.get("transport")));
    const connection = once(server.io, "connection");
    const got = await page.evaluate(async ({ transports, upgrades }) => {
      const socket = io(transports ? { transports } : {});
      const before = { connected: socket.connected, id: socket.id, active: socket.active };
      const upgraded = upgrades && next(socket.io.engine, "upgrade");
      await next(socket, "connect");
      const first = upgrades ? "polling" : socket.io.engine.transport.name;
      await upgraded;
      return { before, first, last: socket.io.engine.transport.name, connected: socket.connected, id: socket.id };
    }, { transports, upgrades: want.first !== want.last });
    const [socket] = await connection;
    assert.deepEqual(got, { before: { connected: false, id: undefined, active: true }, ...want, connected: true, id: socket.id });
    if (!transports) await (socket.conn.transport.name === "websocket" || once(socket.conn, "upgrade"));
    assert.equal(socket.conn.transport.name, want.last);
    if (transports) assert.equal(requests.includes("polling"), transports[0] === "polling");
  });
}

test("upgrade: false stays polling although both are allowed", async (t) => {
  const { server, page } = await setUp(t);
  server.io.on("connection", (socket) => socket.on("name", (answer) => answer(socket.conn.transport.name)));
  const sockets = [];
  page.on("websocket", (ws) => sockets.push(ws.url()));
  const got = await page.evaluate(async () => {
    const socket = io({ upgrade: false });
    return [await socket.emitWithAck("name"), await socket.emitWithAck("name"), await socket.emitWithAck("name")];
  });
  assert.deepEqual([got, sockets], [["polling", "polling", "polling"], []]);
});

test("rememberUpgrade begins with WebSocket the next time", async (t) => {
  const { page } = await setUp(t);
  const got = await page.evaluate(async () => {
    const socket = io({ rememberUpgrade: true });
    await next(socket.io.engine, "upgrade");
    await (socket.connected || next(socket, "connect"));
    socket.disconnect().connect();
    const opening = socket.io.engine.transport.name;
    await next(socket, "connect");
    return opening;
  });
  assert.equal(got, "websocket");
});

test("tryAllTransports goes on with the next", async (t) => {
  const { page } = await setUp(t, { transports: ["polling"] });
  const got = await page.evaluate(async () => {
    const socket = io({ transports: ["websocket", "polling"], tryAllTransports: true });
    await next(socket, "connect");
    return socket.io.engine.transport.name;
  });
  assert.equal(got, "polling");
});

test("path, query and auth reach the server", async (t) => {
  const { server, page } = await setUp(t, { path: "/elsewhere/" });
  const connection = once(server.io, "connection");
  await page.evaluate(async () => {
    await next(io("/?a=b%20c", { path: "/elsewhere", auth: { token: "t" }, query: undefined }), "connect");
  });
  const [{ handshake }] = await connection;
  assert.deepEqual([handshake.query.a, handshake.auth], ["b c", { token: "t" }]);
});

test("query as an option; auth as a function is asked for each connection, and may take its time", async (t) => {
  const { server, page } = await setUp(t);
  const seen = [];
  server.io.on("connection", ({ handshake }) => seen.push([handshake.query.room, handshake.auth.n]));
  await page.evaluate(async () => {
    let n = 0;
    const socket = io({ query: { room: "lobby" }, auth: (cb) => setTimeout(() => cb({ n: ++n })) });
    await next(socket, "connect");
    socket.disconnect().connect();
    await next(socket, "connect");
  });
  assert.deepEqual(seen, [["lobby", 1], ["lobby", 2]]);
});

test("autoConnect: false waits for connect()", async (t) => {
  const { page } = await setUp(t);
  const got = await page.evaluate(async () => {
    const socket = io({ autoConnect: false });
    const before = [socket.active, socket.io.engine];
    await next(socket.connect(), "connect");
    return [before, socket.connected];
  });
  assert.deepEqual(got, [[false, null], true]);
});

test("a page of another origin connects by the whole address, where the server allows it", async (t) => {
  const { page } = await setUp(t);
  const allowing = await startOfficial({ cors: { origin: "*" } });
  const refusing = await startOfficial();
  t.after(() => Promise.all([allowing.close(), refusing.close()]));
  await page.goto(allowing.url + "/any-policy");
  const got = await page.evaluate(async ([allowing, refusing]) => {
    const results = [];
    for (const url of [allowing, allowing.replace("http:", "ws:"), allowing.replace("http://", "")]) {
      const socket = io(url, { transports: ["polling"], forceNew: true });
      await next(socket, "connect");
      results.push(await socket.disconnect().connected);
    }
    const socket = io(refusing, { transports: ["polling"] });
    const [error] = await next(socket, "connect_error");
    results.push(error.message, socket.active);
    socket.disconnect();
    return results;
  }, [allowing.url.replace("127.0.0.1", "localhost"), refusing.url.replace("127.0.0.1", "localhost")]);
  assert.deepEqual(got, [false, false, false, "Failed to fetch", true]);
  page.wrong = page.wrong.filter((text) => !text.includes("CORS policy"));
});

test("namespaces share a connection, and leaving one leaves the other", async (t) => {
  const { server, page } = await setUp(t);
  const admin = once(server.io.of("/admin"), "connection");
  const main = once(server.io, "connection");
  const got = await page.evaluate(async () => {
    const main = io();
    const admin = io("/admin");
    const both = [next(main, "connect"), next(admin, "connect")];
    await Promise.all(both);
    globalThis.sockets = { main, admin };
    return { shared: main.io === admin.io, ids: [main.id, admin.id], own: io("/admin", { forceNew: true, autoConnect: false }).io !== main.io, again: io().io !== main.io };
  });
  const [adminSocket] = await admin;
  const [mainSocket] = await main;
  assert.deepEqual(got, { shared: true, ids: [mainSocket.id, adminSocket.id], own: true, again: true });
  const left = once(adminSocket, "disconnect");
  mainSocket.on("ask", (answer) => answer("still here"));
  const after = await page.evaluate(async () => {
    const reason = next(sockets.admin, "disconnect");
    sockets.admin.disconnect();
    return [(await reason)[0], await sockets.main.emitWithAck("ask")];
  });
  assert.deepEqual(after, ["io client disconnect", "still here"]);
  assert.deepEqual((await left)[0], "client namespace disconnect");
});

test("a socket that leaves before the server answered is not left behind there", async (t) => {
  const { server, page } = await setUp(t);
  // The CONNECTs of both namespaces are on their way; which the server answers first is open.
  const asked = new Promise((resolve) => server.io.of("/slow").use((socket, next) => resolve(next)));
  server.io.on("connection", (socket) => socket.on("admit", async (answer) => { (await asked)(); answer(); }));
  const joined = once(server.io.of("/slow"), "connection");
  await page.evaluate(async () => {
    globalThis.main = io();
    globalThis.slow = io("/slow");
    await next(main, "connect");
    slow.disconnect();
    await main.emitWithAck("admit");
  });
  const [socket] = await joined;
  if (!socket.disconnected) await once(socket, "disconnect");
  assert.equal(await page.evaluate(() => main.connected && !slow.connected), true);
});

test("a refusal is a connect_error with the server's words and data, and ends it", async (t) => {
  const { server, page } = await setUp(t);
  server.io.use((socket, next) => {
    if (socket.handshake.auth.token === "right") return next();
    next(Object.assign(new Error("not you"), { data: { code: 7 } }));
  });
  const got = await page.evaluate(async () => {
    const socket = io({ auth: { token: "wrong" } });
    const [error] = await next(socket, "connect_error");
    const refused = { message: error.message, data: error.data, active: socket.active };
    socket.auth.token = "right";
    await next(socket.connect(), "connect");
    const [invalid] = await next(io("/nowhere"), "connect_error");
    return { refused, invalid: invalid.message, connected: socket.connected };
  });
  assert.deepEqual(got, {
    refused: { message: "not you", data: { code: 7 }, active: false },
    invalid: "Invalid namespace",
    connected: true,
  });
});

test("disconnect by the server keeps away until connect()", async (t) => {
  const { server, page } = await setUp(t);
  server.io.once("connection", (socket) => socket.on("kick", () => socket.disconnect()));
  const got = await page.evaluate(async () => {
    const socket = io();
    await next(socket, "connect");
    const ended = next(socket, "disconnect");
    socket.emit("kick");
    const [reason] = await ended;
    const state = { reason, active: socket.active, connected: socket.connected, id: socket.id, engine: socket.io.engine };
    await next(socket.connect(), "connect");
    return { state, back: socket.connected };
  });
  assert.deepEqual(got, { state: { reason: "io server disconnect", active: false, connected: false, id: undefined, engine: null }, back: true });
});

for (const transports of [["polling"], ["websocket"], ["polling", "websocket"]]) {
  test(`disconnect() delivers what was emitted before it: ${transports}`, async (t) => {
    const { server, page } = await setUp(t);
    // Counted as packets: of events that arrive together with a DISCONNECT the official
    // server hands none to its handlers.
    const got = [];
    const ended = new Promise((resolve) => {
      server.io.engine.on("connection", (session) => {
        session.on("packet", ({ type, data }) => type === "message" && got.push(data));
        session.on("close", resolve);
      });
    });
    const reason = await page.evaluate(async (transports) => {
      const socket = io({ transports });
      await next(socket, "connect");
      for (let n = 0; n < 100; n++) socket.emit("n", n);
      const reason = next(socket, "disconnect");
      socket.disconnect();
      return [(await reason)[0], socket.active];
    }, transports);
    assert.deepEqual(reason, ["io client disconnect", false]);
    await ended;
    assert.deepEqual(got, ["0", ...Array.from({ length: 100 }, (_, n) => `2["n",${n}]`), "1"]);
  });

  test(`disconnect() while connecting leaves no session behind: ${transports}`, async (t) => {
    const { server, page } = await setUp(t);
    const opened = once(server.io.engine, "connection");
    await page.evaluate((transports) => io({ transports }).on("connect", () => { throw new Error("connected"); }).disconnect(), transports);
    if (transports[0] === "websocket") return; // closed before it was open
    const [session] = await opened;
    if (session.readyState !== "closed") await once(session, "close");
  });
}

test("the transports' errors reach the page, and it tries again", async (t) => {
  const { page, proxy } = await setUp(t);
  proxy.cut();
  const got = await page.evaluate(async () => {
    const events = [];
    globalThis.socket = io({ reconnectionDelay: 1, reconnectionDelayMax: 1 });
    socket.on("connect", () => events.push("connect"));
    socket.on("connect_error", (error) => events.push(error instanceof Error));
    const m = socket.io;
    m.on("error", () => events.push("error"));
    m.on("reconnect_attempt", (n) => events.push("attempt " + n));
    m.on("reconnect_error", () => events.push("reconnect_error"));
    m.on("reconnect", (n) => events.push("reconnect " + (n >= 2)));
    globalThis.events = events;
    await new Promise((resolve) => m.on("reconnect_attempt", (n) => n === 2 && resolve()));
    return [[...events], socket.active];
  });
  assert.deepEqual(got, [["error", true, "attempt 1", "error", "reconnect_error", true, "attempt 2"], true]);
  proxy.restore();
  const last = await page.evaluate(async () => {
    await (socket.connected || next(socket, "connect"));
    return events.slice(-2);
  });
  assert.deepEqual(last, ["reconnect true", "connect"]);
});

test("reconnectionAttempts: 2 gives up after two, reconnection: false at once", async (t) => {
  const { server, page } = await setUp(t);
  await server.kill();
  const got = await page.evaluate(async () => {
    const socket = io({ reconnectionDelay: 1, reconnectionAttempts: 2 });
    let attempts = 0;
    socket.io.on("reconnect_attempt", () => attempts++);
    await next(socket.io, "reconnect_failed");
    const never = io({ forceNew: true, reconnection: false });
    await next(never, "connect_error");
    await new Promise((resolve) => setTimeout(resolve));
    return { attempts, active: socket.active, never: never.active };
  });
  assert.deepEqual(got, { attempts: 2, active: false, never: false });
});
