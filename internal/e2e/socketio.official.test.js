// Package socketio with the official client, in Node and in Chromium, over each of its transports: examples/sioecho for what
// test suites ask, testdata/sio for refusals, calls from the server and recovery.
import { before, after } from "node:test";
import assert from "node:assert/strict";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import { launch, open } from "./browser.js";
import { until } from "./chatpage.js";
import { test } from "./fixture.js";
import { officialClient } from "./need.js";
import { build, start } from "./program.js";
import { startProxy } from "./proxy.js";

const official = fileURLToPath(new URL("node_modules/socket.io-client/dist/socket.io.js", import.meta.url));
const ways = [["polling"], ["websocket"], ["polling", "websocket"]];

let browser, echo, sio;
before(async () => {
  echo = build("examples/sioecho");
  sio = build("internal/e2e/testdata/sio");
  browser = await launch();
});
after(async () => {
  await browser?.close();
  echo?.remove();
  sio?.remove();
});

async function run(t, program, ...args) {
  const server = await start(program, ["-addr", "127.0.0.1:0", ...args]);
  t.after(() => server.stop());
  return new URL(server.url);
}

// scenario is what one client does at sioecho, and what it sees: a list of lines. It runs in Node and in a page, so it uses
// nothing from outside.
async function scenario(io, origin, transports) {
  const seen = [];
  const see = (...words) => seen.push(JSON.stringify(words));
  const next = (socket, event) => new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error("no " + event + " after " + seen.at(-1))), 20_000);
    socket.once(event, (...args) => (clearTimeout(timer), resolve(args)));
  });
  const bytes = (...b) => Uint8Array.from(b);
  // show makes binary readable: a Buffer in Node, an ArrayBuffer in a page.
  const show = (v) => v instanceof ArrayBuffer || ArrayBuffer.isView(v) ? "bytes:" + [...new Uint8Array(v.buffer ? v.buffer.slice(v.byteOffset, v.byteOffset + v.byteLength) : v)].slice(0, 9)
    : Array.isArray(v) ? v.map(show) : v && typeof v === "object" ? Object.fromEntries(Object.entries(v).map(([k, x]) => [k, show(x)])) : v;

  // One connection, two namespaces and one that there is not.
  const main = io(origin, { transports, forceNew: true, reconnectionDelay: 10 });
  const hello = next(main, "auth");
  await next(main, "connect");
  see("auth", ...(await hello));
  if (transports.length > 1 && main.io.engine.transport.name !== "websocket") await next(main.io.engine, "upgrade");
  see("transport", main.io.engine.transport.name, main.id !== main.io.engine.id, Boolean(main.recovered));
  const custom = main.io.socket("/custom", { auth: (give) => give({ token: "123", n: [1] }) });
  see("custom auth", ...(await next(custom, "auth")), custom.connected, custom.id !== main.id);
  const random = main.io.socket("/random");
  const [error] = await next(random, "connect_error");
  see("random", error.message, error.data === undefined, random.connected, main.connected);

  // Events and acknowledgements, text and binary, at any depth.
  for (const socket of [main, custom]) {
    for (const args of [[], [1, "2", { 3: [true, null] }], ["日本語 <b>&\u2028\u001e"], [bytes(1, 2, 255)], [{ file: bytes(7), more: [bytes(), "x"] }, bytes(8)]]) {
      const back = next(socket, "message-back");
      socket.emit("message", ...args);
      see("back", ...show(await back));
      const acked = await new Promise((resolve) => socket.emit("message-with-ack", ...args, (...answer) => resolve(answer)));
      see("ack", ...show(acked));
    }
  }
  const big = new Uint8Array(600_000).fill(9);
  const answer = await main.timeout(20_000).emitWithAck("message-with-ack", big);
  see("big", answer.byteLength);
  const none = await main.timeout(100).emitWithAck("nobody answers").catch((error) => error.message);
  see("timeout", none);

  // Order, with everything mixed, and more than fits into a poll.
  const order = [];
  const all = new Promise((resolve) => main.on("message-back", (n) => order.push(n) === 300 && resolve()));
  for (let n = 0; n < 300; n++) main.emit("message", n, n % 3 ? "x" : bytes(n % 256));
  await all;
  see("order", order.every((n, i) => n === i));

  // One namespace goes; the other, and the connection, stay.
  const gone = next(custom, "disconnect");
  custom.disconnect();
  see("left", (await gone)[0], custom.connected, main.connected);
  see("still", await main.timeout(20_000).emitWithAck("message-with-ack", "here"));
  const again = next(custom, "auth");
  custom.connect();
  see("again", ...(await again));

  // An event that the protocol does not know ends the connection, and the client comes back by itself.
  const lost = next(main, "disconnect");
  const back = next(main, "connect");
  main.io.engine.write("4nonsense");
  see("lost", ["transport close", "transport error"].includes((await lost)[0]));
  await back;
  see("back", main.connected);
  const end = next(main, "disconnect");
  main.disconnect();
  custom.disconnect();
  see("end", (await end)[0]);
  return seen;
}

// What the scenario sees, whoever runs it.
function expected(transport, echoed) {
  const binary = [
    ["bytes:1,2,255"],
    [{ file: "bytes:7", more: ["bytes:", "x"] }, "bytes:8"],
  ];
  const rounds = [[], [1, "2", { 3: [true, null] }], ["日本語 <b>&\u2028\u001e"], ...binary];
  return [
    ["auth", {}], ["transport", transport, true, false], ["custom auth", { token: "123", n: [1] }, true, true],
    ["random", "Invalid namespace", true, false, true],
    ...[0, 1].flatMap(() => rounds.flatMap((args) => [["back", ...args], ["ack", ...args]])),
    ["big", 600_000], ["timeout", "operation has timed out"], ["order", true],
    ["left", "io client disconnect", false, true], ["still", "here"], ["again", { token: "123", n: [1] }],
    ["lost", true], ["back", true], ["end", "io client disconnect"],
  ].map((words) => JSON.stringify(words));
}

for (const transports of ways) {
  test(`sioecho and the official client, in Node: ${transports}`, async (t) => {
    const { origin } = await run(t, echo);
    assert.deepEqual(await scenario(officialClient, origin, transports), expected(transports.at(-1)));
  });

  test(`sioecho and the official client, in Chromium: ${transports}`, async (t) => {
    const { origin } = await run(t, echo);
    const page = await open(browser, origin + "/no-page");
    t.after(() => page.context().close());
    await page.addScriptTag({ path: official });
    const seen = await page.evaluate(`(${scenario})(io, ${JSON.stringify(origin)}, ${JSON.stringify(transports)})`);
    assert.deepEqual(seen, expected(transports.at(-1)));
    assert.deepEqual(page.wrong, []);
  });

  test(`a refusal with data, and another try: ${transports}`, async (t) => {
    const { origin } = await run(t, sio);
    const main = officialClient(origin, { transports, forceNew: true });
    t.after(() => main.disconnect());
    await once(main, "connect");
    const door = main.io.socket("/private", { auth: { token: "wrong" } }); // tries at once
    let refused = once(door, "connect_error");
    for (const [token, message, data] of [
      ["wrong", "not authorized", { code: 401, asked: { token: "wrong" } }],
      ["broken", "refused", undefined], // the server's own trouble is not the client's business
      [undefined, "not authorized", { code: 401, asked: {} }],
    ]) {
      if (door.auth.token !== token) {
        door.auth = { token };
        refused = once(door, "connect_error");
        door.connect();
      }
      const [error] = await refused;
      assert.deepEqual([error.message, error.data, door.connected, main.connected], [message, data, false, true]);
    }
    door.auth = { token: "secret" };
    const opened = once(door, "connect");
    door.connect();
    await opened;
    assert.deepEqual([door.id, await door.timeout(20_000).emitWithAck("what was it?")], ["private-1", "secret"]);
    const left = once(door, "disconnect");
    door.emit("leave me");
    assert.deepEqual([(await left)[0], main.connected], ["io server disconnect", true]);
  });

  test(`the server asks, and ends: ${transports}`, async (t) => {
    const { origin } = await run(t, sio);
    const watcher = officialClient(origin, { transports: ["websocket"], forceNew: true });
    t.after(() => watcher.disconnect());
    const lines = [];
    watcher.on("line", (line) => lines.push(line));
    await once(watcher, "connect");
    const client = () => officialClient(origin, { transports, forceNew: true, reconnectionDelay: 10, reconnectionDelayMax: 20 });

    const socket = client();
    t.after(() => socket.disconnect());
    await once(socket, "connect");
    socket.on("question", (bytes, word, answer) => answer([...bytes], word, { file: Buffer.from([9]) }));
    const answers = await new Promise((resolve) => socket.emit("ask me", (...answers) => resolve(answers)));
    assert.deepEqual(answers, [[1, 2, 3], "and?", { file: Buffer.from([9]) }]);

    // One namespace by the server; then the whole connection. The client does not come back by itself from either.
    for (const [event, stays] of [["leave me", true], ["close me", false]]) {
      const one = client();
      t.after(() => one.disconnect());
      await once(one, "connect");
      const other = one.io.socket("/private", { auth: { token: "secret" } });
      t.after(() => other.disconnect());
      await once(other, "connect");
      const left = once(one, "disconnect");
      const alsoLeft = once(other, "disconnect");
      one.emit(event);
      assert.equal((await left)[0], "io server disconnect", event);
      if (stays) assert.equal(await other.timeout(20_000).emitWithAck("still there?"), "secret");
      else assert.equal((await alsoLeft)[0], "transport close");
    }
    // From a connection that was dropped it does.
    const dropped = client();
    t.after(() => dropped.disconnect());
    await once(dropped, "connect");
    const back = once(dropped.io, "reconnect");
    dropped.emit("drop me");
    await back;

    // What is goodbye, and what is loss: a client that only vanishes says nothing on polling.
    const ids = {};
    for (const [how, leave] of [
      ["goodbye", (one) => one.disconnect()],
      ["lost", (one) => (one.io.reconnection(false), one.io.engine.transport.name === "websocket" ? one.io.engine.transport.ws.terminate() : one.io.engine.close())],
    ]) {
      const one = client();
      t.after(() => one.disconnect());
      await once(one, "connect");
      if (transports.length > 1 && one.io.engine.transport.name === "polling") await once(one.io.engine, "upgrade");
      ids[how] = one.id;
      leave(one);
    }
    await until(() => Object.entries(ids).map(([how, id]) => lines.includes(`${id} ${how}`)), [true, true], lines.join("\n"));
  });

  test(`recovery, again and again: ${transports}`, async (t) => {
    const url = await run(t, sio);
    const proxy = await startProxy(Number(url.port));
    t.after(() => proxy.close());
    const speaker = officialClient(url.origin, { transports: ["websocket"], forceNew: true });
    t.after(() => speaker.disconnect());
    await once(speaker, "connect");
    const socket = officialClient(`http://127.0.0.1:${proxy.port}`, { transports, forceNew: true, reconnectionDelay: 10, reconnectionDelayMax: 50 });
    t.after(() => socket.disconnect());
    const heard = [];
    socket.on("line", (line) => line.startsWith("n") && heard.push(line));
    await once(socket, "connect");
    const { id } = socket;
    assert.equal(socket.recovered, false);
    let n = 0;
    const say = () => speaker.timeout(20_000).emitWithAck("say", `n${n++}`);
    await say();
    await until(() => heard.length, n);
    for (let round = 0; round < 5; round++) {
      const gone = once(socket, "disconnect");
      proxy.cut();
      for (let i = 0; i < 3; i++) await say();
      await gone;
      const back = once(socket, "connect");
      proxy.restore();
      await back;
      assert.deepEqual([socket.recovered, socket.id], [true, id], `round ${round}`);
      await say();
      await until(() => heard, Array.from({ length: n }, (_, i) => `n${i}`), `round ${round}`);
    }
    // The client keeps its pid beyond its own goodbye: what that means is the program's to say, and this one lets it in.
    socket.disconnect();
    const anew = once(socket, "connect");
    socket.connect();
    await anew;
    assert.deepEqual([socket.recovered, socket.id], [true, id]);
  });
}
