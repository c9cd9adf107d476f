// A TCP proxy between a client and a server: the network, with a plug that can be pulled.
import net from "node:net";

// startProxy listens on a free port of 127.0.0.1 and forwards to the port it is given.
export async function startProxy(target) {
  const pairs = new Set();
  const proxy = {
    // target is the server's port, for the connections made from now on.
    target,
    port: 0,
    state: "up",

    // cut breaks every connection, and new ones as they come.
    cut() {
      proxy.state = "cut";
      for (const pair of pairs) pair.destroy();
    },

    // stall keeps connections open and lets nothing through, as a dead network does.
    stall() {
      proxy.state = "stalled";
      for (const pair of pairs) pair.pause();
    },

    // deafen lets through what clients send, and nothing back.
    deafen() {
      for (const pair of pairs) pair.deafen();
    },

    // restore lets through what was held, and new connections.
    restore() {
      proxy.state = "up";
      for (const pair of pairs) pair.resume();
    },

    async close() {
      for (const pair of pairs) pair.destroy();
      await new Promise((resolve) => server.close(resolve));
    },
  };

  const server = net.createServer((near) => {
    if (proxy.state === "cut") return near.resetAndDestroy();
    const far = net.connect(proxy.target, "127.0.0.1");
    const pair = {
      destroy() {
        pairs.delete(pair);
        near.destroy();
        far.destroy();
      },
      deafen() {
        far.unpipe(near);
        far.pause();
      },
      pause() {
        near.unpipe(far);
        far.unpipe(near);
        near.pause();
        far.pause();
      },
      resume() {
        near.pipe(far);
        far.pipe(near);
      },
    };
    pairs.add(pair);
    for (const socket of [near, far]) {
      socket.setNoDelay(true);
      socket.on("error", pair.destroy); // a broken connection is what this is for
      socket.on("close", pair.destroy);
    }
    if (proxy.state === "up") pair.resume();
    else pair.pause();
  });
  await new Promise((resolve, reject) => {
    server.once("error", reject);
    server.listen(0, "127.0.0.1", resolve);
  });
  proxy.port = server.address().port;
  return proxy;
}
