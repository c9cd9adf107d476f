// examples/browserchat with the official client in Node, over each of its transports.
import { before, after } from "node:test";
import assert from "node:assert/strict";
import { once } from "node:events";
import { until } from "./chatpage.js";
import { test } from "./fixture.js";
import { officialClient } from "./need.js";
import { build, start } from "./program.js";
import { startProxy } from "./proxy.js";

let program;
before(() => { program = build("examples/browserchat"); });
after(() => program.remove());

const events = ["loginSuccess", "notify", "updateUserList", "recevied", "loginOut"];

// join connects a client that keeps what it hears. Only the arguments of the original's events
// count: one more may follow.
async function join(t, url, transports, options) {
  const socket = officialClient(url, { transports, forceNew: true, reconnectionDelay: 10, reconnectionDelayMax: 50, ...options });
  t.after(() => socket.disconnect());
  socket.heard = [];
  for (const event of events) {
    socket.on(event, (...args) => {
      if (event === "updateUserList") socket.list = args[0].map((user) => user.username);
      else socket.heard.push([event, ...args.slice(0, { notify: 1, recevied: 2, loginOut: 1 }[event] ?? 0)]);
    });
  }
  const upgraded = transports.length > 1 && once(socket.io, "open").then(() => once(socket.io.engine, "upgrade"));
  await once(socket, "connect");
  await upgraded;
  assert.equal(socket.io.engine.transport.name, transports.at(-1));
  return socket;
}

for (const transports of [["polling"], ["websocket"], ["polling", "websocket"]]) {
  test(`the official client: ${transports}`, async (t) => {
    const server = await start(program, ["-addr", "127.0.0.1:0", "-rate", "0", "-heartbeat", "10m"]);
    t.after(() => server.stop());
    const ann = await join(t, server.url, transports);
    await until(() => ann.list, []);
    ann.emit("login", "Ann");
    await until(() => [ann.heard, ann.list], [[["loginSuccess"], ["notify", "Ann"]], ["Ann"]]);

    const bob = await join(t, server.url, transports);
    await until(() => bob.list, ["Ann"]);
    bob.emit("message", { username: "Ann", message: "before login" });
    bob.emit("loginOut");
    bob.emit("login", "Ann");
    await until(() => bob.heard.length, 3);
    assert.deepEqual(bob.heard.map(([event, name]) => [event, name ?? null]), [["loginOut", null], ["loginOut", null], ["loginOut", null]]);
    assert.equal(ann.heard.length, 2, "refusals are nobody else's business");
    bob.emit("login", "Bob");
    await until(() => [ann.list, bob.list], [["Ann", "Bob"], ["Ann", "Bob"]]);

    // Both speak at once; both hear the same, in one order, and each speaker in its own.
    const from = [ann.heard.length, bob.heard.length];
    const answers = [];
    for (let n = 0; n < 100; n++) {
      for (const [socket, name] of [[ann, "Ann"], [bob, "Bob"]]) {
        answers.push(socket.timeout(20_000).emitWithAck("message", { username: name, message: `${name} ${n}` }));
      }
    }
    assert.deepEqual(new Set((await Promise.all(answers)).map((answer) => answer.ok)), new Set([true]));
    await until(() => [ann.heard.length - from[0], bob.heard.length - from[1]], [200, 200]);
    const heard = ann.heard.slice(from[0]);
    assert.deepEqual(heard, bob.heard.slice(from[1]));
    for (const name of ["Ann", "Bob"]) {
      assert.deepEqual(heard.filter(([, from]) => from === name).map(([, , words]) => words), Array.from({ length: 100 }, (_, n) => `${name} ${n}`));
    }

    for (const junk of [[], [null], [7], [{ message: 7 }], [{ message: "" }], [["a"]], [{ message: "x".repeat(5000) }]]) {
      const answer = await bob.timeout(20_000).emitWithAck("message", ...junk);
      assert.equal(answer.ok, false, JSON.stringify(junk).slice(0, 40));
      assert.equal(typeof answer.error, "string");
    }
    bob.emit("loginOut");
    await until(() => [ann.list, ann.heard.at(-1)], [["Ann"], ["loginOut", "Bob"]]);
    bob.emit("login", "Bob");
    await until(() => ann.list, ["Ann", "Bob"]);
    bob.disconnect();
    await until(() => ann.list, ["Ann"]);
    assert.ok(ann.connected);
  });

  test(`the official client goes on where it was: ${transports}`, async (t) => {
    const server = await start(program, ["-addr", "127.0.0.1:0"]);
    t.after(() => server.stop());
    const proxy = await startProxy(server.port);
    t.after(() => proxy.close());
    const ann = await join(t, server.url, ["websocket"]);
    ann.emit("login", "Ann");
    await until(() => ann.list, ["Ann"]);
    const bob = await join(t, `http://127.0.0.1:${proxy.port}/`, transports);
    assert.equal(bob.recovered, false);
    const { id } = bob;
    const said = [];
    const say = async (from, name, words) => {
      said.push(["recevied", name, words]);
      const answer = await from.timeout(20_000).emitWithAck("message", { message: words, id: words });
      assert.equal(answer.ok, true);
    };
    // Before it has received anything with an offset, then as a member, again and again.
    for (let n = 0; n < 4; n++) {
      const gone = once(bob, "disconnect");
      proxy.cut();
      await gone;
      for (let i = 0; i < 3; i++) await say(ann, "Ann", `${n}.${i}`);
      const back = once(bob, "connect");
      bob.list = undefined;
      proxy.restore();
      await back;
      assert.deepEqual([bob.recovered, bob.id], [true, id], `time ${n}`);
      await until(() => bob.list, n ? ["Ann", "Bob"] : ["Ann"], "the list comes anew");
      if (n === 0) {
        bob.emit("login", "Bob");
        await until(() => ann.list, ["Ann", "Bob"]);
        said.push(["loginSuccess"], ["notify", "Bob"]);
      } else {
        await say(bob, "Bob", `${n}`);
      }
      await until(() => bob.heard, said);
    }
    await until(() => ann.heard.slice(2), said.filter(([event]) => event !== "loginSuccess"), "nobody saw it go");
  });

  test(`the official client comes back too late: ${transports}`, async (t) => {
    const server = await start(program, ["-addr", "127.0.0.1:0", "-heartbeat", "1s", "-linger", "0"]);
    t.after(() => server.stop());
    const proxy = await startProxy(server.port);
    t.after(() => proxy.close());
    const ann = await join(t, server.url, ["websocket"]);
    const bob = await join(t, `http://127.0.0.1:${proxy.port}/`, transports);
    bob.emit("login", "Bob");
    await until(() => ann.list, ["Bob"]);
    const gone = once(bob, "disconnect");
    proxy.stall();
    await gone;
    await until(() => ann.list, [], "a vanished one leaves within the heartbeat's bound");
    const back = once(bob, "connect");
    proxy.restore();
    await back;
    assert.equal(bob.recovered, false);
    bob.emit("login", "Bob");
    await until(() => ann.list, ["Bob"]);
  });
}
