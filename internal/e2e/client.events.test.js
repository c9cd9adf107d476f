// socketio/client.js in Chromium against the official server: events and acknowledgements.
import assert from "node:assert/strict";
import { fixture, test } from "./fixture.js";

const setUp = fixture();

const kinds = [["polling"], ["websocket"], ["polling", "websocket"]];

for (const transports of kinds) {
  test(`arguments, acknowledgements and binary, both ways: ${transports}`, async (t) => {
    const { server, page } = await setUp(t);
    server.io.on("connection", (socket) => {
      socket.on("echo", (...args) => args.pop()(...args));
      socket.on("ask me", async (answer) => {
        answer(await socket.emitWithAck("question", { b: Buffer.from([1, 2]) }, [Buffer.from("é")], "ü\u2028\u0000🙂"));
      });
    });
    const got = await page.evaluate(async (transports) => {
      const socket = io({ transports });
      const bytes = (b) => Array.from(new Uint8Array(b));
      const big = new Uint8Array(100_000).map((_, i) => i * 7);
      const sent = [null, true, 0.5, "ü\u2028\u0000🙂\u001e", { a: [1, {}] }, [], new Uint8Array([9, 8, 7]).subarray(1), new Blob(["é"]), big.buffer, { deep: [big] }];
      const answer = await new Promise((resolve) => socket.emit("echo", ...sent, (...args) => resolve(args)));
      const same = (b) => b instanceof ArrayBuffer && bytes(b).every((x, i) => x === big[i]) && b.byteLength === big.length;
      const echo = [...answer.slice(0, 6), bytes(answer[6]), bytes(answer[7]), same(answer[8]), same(answer[9].deep[0])];
      socket.on("question", (a, b, text, answer) => {
        answer({ back: [a.b, b[0]], text });
        answer("a second answer is none");
      });
      const asked = await socket.emitWithAck("ask me");
      return { echo, asked: { back: asked.back.map(bytes), text: asked.text } };
    }, transports);
    assert.deepEqual(got, {
      echo: [null, true, 0.5, "ü\u2028\u0000🙂\u001e", { a: [1, {}] }, [], [8, 7], [0xc3, 0xa9], true, true],
      asked: { back: [[1, 2], [0xc3, 0xa9]], text: "ü\u2028\u0000🙂" },
    });
  });

  test(`500 events each way arrive in order while the transport may change: ${transports}`, async (t) => {
    const { server, page } = await setUp(t, { maxHttpBufferSize: 2000 });
    const up = [];
    const all = new Promise((resolve) => {
      server.io.on("connection", (socket) => {
        let n = 0;
        const tick = () => {
          for (let i = 0; i < 5; i++) socket.emit("down", n++);
          if (n < 500) setTimeout(tick, 1);
        };
        tick();
        socket.on("up", (i) => up.push(i) === 500 && resolve());
      });
    });
    const down = await page.evaluate(async (transports) => {
      const socket = io({ transports });
      let n = 0;
      const tick = () => {
        for (let i = 0; i < 5; i++) socket.emit("up", n++);
        if (n < 500) setTimeout(tick, 1);
      };
      tick();
      const got = [];
      await new Promise((resolve) => socket.on("down", (i) => got.push(i) === 500 && resolve()));
      return got;
    }, transports);
    await all;
    const want = Array.from({ length: 500 }, (_, n) => n);
    assert.deepEqual(down, want);
    assert.deepEqual(up, want);
  });

  test(`a body never exceeds the server's maxPayload: ${transports}`, async (t) => {
    const { server, page } = await setUp(t, { maxHttpBufferSize: 1000 });
    const got = [];
    const all = new Promise((resolve) => {
      server.io.on("connection", (socket) => socket.on("n", (n, text) => got.push([n, text.length]) === 40 && resolve()));
    });
    await page.evaluate(async (transports) => {
      const socket = io({ transports });
      for (let n = 0; n < 40; n++) socket.emit("n", n, "é".repeat(150));
      socket.on("disconnect", () => { throw new Error("disconnected"); });
    }, transports);
    await all;
    assert.deepEqual(got, Array.from({ length: 40 }, (_, n) => [n, 150]));
  });
}

test("once, off, listeners, onAny: who is called, and how often", async (t) => {
  const { server, page } = await setUp(t);
  server.io.on("connection", (socket) => socket.on("go", (answer) => {
    socket.emit("e", 1);
    socket.emit("e", 2);
    socket.emit("__proto__", 3);
    answer();
  }));
  const got = await page.evaluate(async () => {
    const socket = io();
    const calls = [];
    const f = (n) => calls.push("f" + n);
    const g = (n) => calls.push("g" + n);
    const any = (event, n) => calls.push("any " + event + n);
    socket.on("e", f).on("e", g).once("e", (n) => calls.push("once" + n)).onAny(any);
    socket.on("__proto__", (n) => calls.push("proto" + n));
    socket.once("e", () => socket.off("e", f).on("e", () => calls.push("late")));
    await socket.emitWithAck("go");
    const counts = [socket.listeners("e").length, socket.hasListeners("e")];
    socket.off("e").off("__proto__").offAny(any);
    await socket.emitWithAck("go");
    socket.off();
    let thrown;
    try { socket.on("e"); } catch (error) { thrown = error.name; }
    return { calls, counts, after: [socket.listeners("e").length, socket.hasListeners("e")], thrown };
  });
  assert.deepEqual(got, {
    calls: ["any e1", "f1", "g1", "once1", "any e2", "g2", "late", "any __proto__3", "proto3"],
    counts: [2, true],
    after: [0, false],
    thrown: "TypeError",
  });
});

test("a handler that throws is reported and disturbs nobody", async (t) => {
  const { server, page } = await setUp(t);
  server.io.on("connection", (socket) => {
    socket.emit("e", 1);
    socket.emit("e", 2);
  });
  const got = await page.evaluate(async () => {
    const socket = io({ transports: ["polling"] });
    const calls = [];
    const reported = [];
    addEventListener("error", (event) => reported.push(event.message) && event.preventDefault());
    socket.on("e", () => { throw new Error("mine"); });
    await new Promise((resolve) => socket.on("e", (n) => calls.push(n) === 2 && resolve()));
    return { calls, reported, connected: socket.connected };
  });
  assert.deepEqual(got, { calls: [1, 2], reported: ["Uncaught Error: mine", "Uncaught Error: mine"], connected: true });
  page.wrong = page.wrong.filter((text) => text !== "Error: mine");
});

test("what can't be sent is refused where it is emitted, and leaves no trace", async (t) => {
  const { server, page } = await setUp(t);
  const got = [];
  server.io.on("connection", (socket) => socket.onAny((event, ...args) => got.push([event, ...args.slice(0, -1)]) && args.at(-1)()));
  const errors = await page.evaluate(async () => {
    const socket = io();
    const errors = [];
    const circular = {};
    circular.self = circular;
    for (const args of [["connect"], ["disconnect", 1], ["newListener"], ["e", circular], ["e", 1n]]) {
      try { socket.emit(...args, () => errors.push("answered")); } catch (error) { errors.push(error.message.split("\n")[0]); }
    }
    await socket.emitWithAck("fine", undefined);
    return errors;
  });
  assert.deepEqual(errors, [
    '"connect" is a reserved event name',
    '"disconnect" is a reserved event name',
    '"newListener" is a reserved event name',
    "Converting circular structure to JSON",
    "Do not know how to serialize a BigInt",
  ]);
  assert.deepEqual(got, [["fine", null]]);
});

test("timeouts: answered, not answered, answered too late", async (t) => {
  const { server, page } = await setUp(t);
  server.io.on("connection", (socket) => {
    let late;
    socket.on("late", (answer) => { late = answer; });
    socket.on("now", (answer) => {
      late?.("late");
      answer("now", 2);
    });
  });
  const got = await page.evaluate(async () => {
    const socket = io();
    await next(socket, "connect");
    const ask = (ms, event) => new Promise((resolve) => {
      let calls = 0;
      socket.timeout(ms).emit(event, (error, ...answer) => resolve([error && error.message, ...answer, ++calls]));
    });
    const never = await ask(30, "late");
    const now = await ask(60_000, "now"); // the server answers "late" before it
    const promised = await socket.timeout(60_000).emitWithAck("now");
    const rejected = await socket.timeout(30).emitWithAck("late").catch((error) => error.message);
    const plain = await new Promise((resolve) => socket.emit("now", (...answer) => resolve(answer)));
    const byOption = io({ forceNew: true, ackTimeout: 30 });
    await next(byOption, "connect");
    const option = await byOption.emitWithAck("late").catch((error) => error.message);
    return { never, now, promised, rejected, plain, option };
  });
  assert.deepEqual(got, {
    never: ["operation has timed out", 1],
    now: [null, "now", 2, 1],
    promised: "now",
    rejected: "operation has timed out",
    plain: ["now", 2],
    option: "operation has timed out",
  });
});

test("away: emits are kept in order, the timed out and the volatile are not", async (t) => {
  const { server, page } = await setUp(t);
  const got = [];
  const last = new Promise((resolve) => {
    server.io.on("connection", (socket) => socket.onAny((event, ...args) => {
      got.push([event, typeof args.at(-1) === "function" ? "ack" : args[0]]);
      if (event === "connected") resolve();
    }));
  });
  await page.evaluate(async () => {
    const socket = io({ autoConnect: false });
    socket.on("connect", () => socket.emit("connected"));
    const data = { n: 1 };
    socket.emit("e", data.n);
    socket.volatile.emit("volatile");
    socket.emit("e", data);
    data.n = "changed after it was emitted";
    const timedOut = new Promise((resolve) => socket.timeout(1).emit("too late", resolve));
    socket.emit("asks", () => {});
    socket.send(3);
    await timedOut;
    socket.connect();
  });
  await last;
  assert.deepEqual(got, [["e", 1], ["e", { n: 1 }], ["asks", "ack"], ["message", 3], ["connected", undefined]]);
});

test("acknowledgements that a loss cuts off are rejected; those of kept emits are answered later", async (t) => {
  const { server, page, proxy } = await setUp(t);
  server.io.on("connection", (socket) => socket.on("now", (answer) => answer("now")));
  await page.evaluate(async () => {
    globalThis.socket = io({ reconnectionDelay: 1, transports: ["websocket"] });
    await next(socket, "connect");
    globalThis.lost = socket.emitWithAck("never").catch((error) => error.message);
    globalThis.timed = socket.timeout(60_000).emitWithAck("never").catch((error) => error.message);
    globalThis.plain = "not called";
    socket.emit("never", () => { plain = "called"; });
    globalThis.gone = next(socket, "disconnect");
  });
  proxy.cut();
  const during = await page.evaluate(async () => {
    await gone;
    globalThis.later = socket.emitWithAck("now");
    return [await lost, await timed];
  });
  proxy.restore();
  const after = await page.evaluate(async () => [await later, plain]);
  assert.deepEqual([during, after], [["socket has been disconnected", "socket has been disconnected"], ["now", "not called"]]);
});

test("an acknowledgement is sent once, and on no other connection than the one that asked", async (t) => {
  const { server, page } = await setUp(t);
  server.io.on("connection", (socket) => socket.on("ask me", () => socket.emit("question", () => {})));
  const acks = [];
  const answered = new Promise((resolve) => {
    server.io.engine.on("connection", (session) => session.on("packet", ({ data }) => {
      if (/^3/.test(data ?? "")) acks.push(data);
      if (/last/.test(data ?? "")) resolve();
    }));
  });
  await page.evaluate(async () => {
    const socket = io();
    socket.emit("ask me");
    const [answer] = await next(socket, "question");
    socket.disconnect().connect();
    await next(socket, "connect");
    answer("too late");
    socket.emit("ask me");
    const [second] = await next(socket, "question");
    second("in time");
    second("once more");
    socket.emit("ask me");
    const [third] = await next(socket, "question");
    third("last");
  });
  await answered;
  assert.deepEqual(acks, ['31["in time"]', '32["last"]']);
});

test("events that overtake the server's CONNECT are kept until it came", async (t) => {
  const { server, page } = await setUp(t);
  server.io.use((socket, next) => {
    // Sent below Socket.IO, for the official server has no such bug.
    socket.conn.write('2["early",1]');
    next();
  });
  const got = await page.evaluate(async () => {
    const socket = io({ transports: ["websocket"] });
    const got = [];
    socket.on("early", (n) => got.push(["early", n, socket.connected]));
    await next(socket, "connect");
    return got;
  });
  assert.deepEqual(got, [["early", 1, true]]);
});
