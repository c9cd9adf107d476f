// The official Socket.IO server, serving our browser script to a page under a policy that
// allows no inline code and no eval.
import http from "node:http";
import { readFileSync } from "node:fs";
import { Server } from "./need.js";

// CLIENT_SCRIPT names another script to test instead, such as one with a planted bug.
export const scriptPath = process.env.CLIENT_SCRIPT || new URL("../../socketio/client.js", import.meta.url);

const policy = "default-src 'none'; script-src 'self'; connect-src 'self'; img-src data:; require-trusted-types-for 'script'";
const page = '<!doctype html><meta charset="utf-8"><title>t</title><link rel="icon" href="data:,"><script src="/socket.io.js"></script>';

// startOfficial listens on a free port of 127.0.0.1.
export async function startOfficial(options = {}) {
  const server = http.createServer((request, response) => {
    const path = request.url.split("?")[0];
    response.setHeader("Cache-Control", "max-age=60"); // lets the browser keep a page it left
    if (path === "/socket.io.js") {
      response.setHeader("Content-Type", "text/javascript; charset=utf-8");
      response.end(readFileSync(scriptPath));
    } else if (path === "/" || path === "/other" || path === "/any-policy") {
      response.setHeader("Content-Type", "text/html; charset=utf-8");
      if (path !== "/any-policy") response.setHeader("Content-Security-Policy", policy);
      response.end(page);
    } else {
      response.writeHead(404).end();
    }
  });
  const sockets = new Set();
  server.on("connection", (socket) => {
    sockets.add(socket);
    socket.on("close", () => sockets.delete(socket));
  });
  const io = new Server(server, { serveClient: false, ...options });
  await new Promise((resolve, reject) => {
    server.once("error", reject);
    server.listen(0, "127.0.0.1", resolve);
  });
  return {
    io,
    http: server,
    port: server.address().port,
    url: `http://127.0.0.1:${server.address().port}`,

    // close ends it politely; kill as a crash would, without a word to anybody.
    async close() {
      const closed = io.close();
      for (const socket of sockets) socket.destroySoon();
      await closed;
    },
    async kill() {
      const ended = new Promise((resolve) => server.close(resolve));
      for (const socket of sockets) socket.resetAndDestroy();
      await ended;
      await io.close().catch(() => {}); // already closed below it
    },
  };
}
