// The browser's side of this package: Socket.IO protocol 5 on Engine.IO protocol 4.
//
//	<script src="/socket.io/socket.io.js"></script>
//	const socket = io();                   // or io("https://host:port/namespace?key=value", options)
//	socket.on("recevied", (name, text) => …);
//	socket.emit("message", { message: "hi" }, (answer) => …);
//
// A classic script that defines one global, io, for browsers from 2021 on. It needs no eval,
// no inline code and no other file, so it runs under the strictest Content-Security-Policy.
// It reads from the top:
// Emitter, the packets of both protocols, the two transports, Engine (one Engine.IO
// session), Manager (reconnection), Socket (what a page holds), io itself, and what the
// browser tells us (page hidden, page back, network gone, network back).
//
// Order and loss: events arrive in the order the server sent them. An emit is sent at most
// once; made while away it is kept and sent on the next connection, before the "connect"
// event. What was on its way when a connection broke may be lost: emits that ask for an
// acknowledgement with timeout() or emitWithAck() are told so by an Error.
//
// Options, with their defaults:
//
//	path "/socket.io/"                     where the server listens
//	query {}                               added to every request
//	auth {}                                sent with CONNECT; or a function (cb) => cb({…})
//	transports ["polling", "websocket"]    the first opens, and polling is then upgraded
//	upgrade true                           false: polling stays polling
//	rememberUpgrade false                  true: after one upgrade, begin with WebSocket
//	tryAllTransports false                 true: the next one when the first can't open
//	autoConnect true                       false: wait for connect()
//	timeout 20000                          ms for opening a connection
//	reconnection true                      come back by itself after a loss
//	reconnectionAttempts Infinity          then "reconnect_failed"
//	reconnectionDelay 1000                 ms before the first try, doubled with each more
//	reconnectionDelayMax 5000              ms, at most
//	randomizationFactor 0.5                each delay is up to so much shorter or longer
//	ackTimeout none                        ms, what timeout() gives to a single emit
//	forceNew false, multiplex true         a connection of its own for this io() call
//	withCredentials false                  cookies on requests to another origin
//	extraHeaders none                      for the requests of polling
"use strict";

var io = (() => {
  const defaults = {
    path: "/socket.io/",
    query: {},
    transports: ["polling", "websocket"],
    upgrade: true,
    autoConnect: true,
    timeout: 20000,
    reconnection: true,
    reconnectionAttempts: Infinity,
    reconnectionDelay: 1000,
    reconnectionDelayMax: 5000,
    randomizationFactor: 0.5,
  };

  // ---- Emitter ---------------------------------------------------------------------------

  // A handler that throws is the page's error, not the connection's: it is reported as an
  // uncaught error is, and the other handlers and packets get their turn.
  function call(fn, self, args) {
    try {
      fn.apply(self, args);
    } catch (error) {
      if (typeof reportError === "function") reportError(error);
      else setTimeout(() => { throw error; });
    }
  }

  class Emitter {
    #handlers = new Map(); // event name -> [{ fn, once }]

    on(event, fn) {
      return this.#add(event, fn, false);
    }

    once(event, fn) {
      return this.#add(event, fn, true);
    }

    // off() removes everything, off(event) all handlers of one event, off(event, fn) one.
    off(event, fn) {
      if (event === undefined) this.#handlers.clear();
      else if (fn === undefined) this.#handlers.delete(event);
      else this.#handlers.set(event, this.#of(event).filter((h) => h.fn !== fn));
      return this;
    }

    listeners(event) {
      return this.#of(event).map((h) => h.fn);
    }

    hasListeners(event) {
      return this.#of(event).length > 0;
    }

    // fire calls the handlers there are now: one added meanwhile waits for the next event.
    fire(event, ...args) {
      for (const h of [...this.#of(event)]) {
        if (h.once) this.#handlers.set(event, this.#of(event).filter((other) => other !== h));
        call(h.fn, this, args);
      }
    }

    #of(event) {
      return this.#handlers.get(event) || [];
    }

    #add(event, fn, once) {
      if (typeof fn !== "function") throw new TypeError("handler of " + event + " is not a function");
      this.#handlers.set(event, [...this.#of(event), { fn, once }]);
      return this;
    }
  }

  // ---- Packets ---------------------------------------------------------------------------

  // Engine.IO 4: a packet is one type digit, then data. Here a packet is that string, or, for
  // a binary message, the ArrayBuffer (or view, or Blob) itself.
  const OPEN = "0", CLOSE = "1", PING = "2", PONG = "3", MESSAGE = "4", UPGRADE = "5", NOOP = "6";

  // Polling puts several packets in one body, between them SEPARATOR, binary as "b" + base64.
  const SEPARATOR = "\x1e";

  // Socket.IO 5: TYPE[attachments-][/namespace,][ack id][json], inside an Engine.IO message.
  const CONNECT = 0, DISCONNECT = 1, EVENT = 2, ACK = 3, CONNECT_ERROR = 4, BINARY_EVENT = 5, BINARY_ACK = 6;

  const RESERVED = new Set(["connect", "connect_error", "disconnect", "disconnecting", "newListener", "removeListener"]);

  function isBinary(value) {
    return value instanceof ArrayBuffer || ArrayBuffer.isView(value) || (typeof Blob === "function" && value instanceof Blob);
  }

  // encode returns the Engine.IO packets of one Socket.IO packet: the text, then one for each
  // piece of binary in data, for which the text holds {"_placeholder":true,"num":n}.
  function encode(type, namespace, data, id) {
    const attachments = [];
    const json = data === undefined ? "" : JSON.stringify(data, (key, value) =>
      isBinary(value) ? { _placeholder: true, num: attachments.push(value) - 1 } : value);
    let head = String(type);
    if (attachments.length > 0) head = (type === EVENT ? BINARY_EVENT : BINARY_ACK) + String(attachments.length) + "-";
    if (namespace !== "/") head += namespace + ",";
    if (id !== undefined) head += id;
    return [MESSAGE + head + json, ...attachments];
  }

  // decode reads the text of one Socket.IO packet and throws if it is none.
  function decode(text) {
    const m = /^([0-6])(?:(\d+)-)?(?:(\/[^,]*),?)?(\d+)?([^]*)$/.exec(text);
    if (!m) throw new Error("not a packet");
    const type = Number(m[1]);
    const packet = {
      type,
      namespace: m[3] || "/",
      id: m[4] === undefined ? undefined : Number(m[4]),
      data: m[5] === "" ? undefined : JSON.parse(m[5]),
      attachments: Number(m[2] || 0),
    };
    const { data } = packet;
    const binary = type === BINARY_EVENT || type === BINARY_ACK;
    const valid =
      binary === (m[2] !== undefined) &&
      (type === EVENT || type === BINARY_EVENT
        ? Array.isArray(data) && (typeof data[0] === "string" ? !RESERVED.has(data[0]) : typeof data[0] === "number")
        : type === ACK || type === BINARY_ACK
          ? Array.isArray(data) && packet.id !== undefined
          : type === DISCONNECT
            ? data === undefined
            : type === CONNECT
              ? typeof data === "object" && data !== null && typeof data.sid === "string"
              : typeof data === "string" || (typeof data === "object" && data !== null));
    if (!valid) throw new Error("not a valid packet of type " + type);
    return packet;
  }

  // attach puts the attachments where the placeholders stand.
  function attach(value, attachments) {
    if (value === null || typeof value !== "object") return value;
    if (value._placeholder === true) {
      if (!isBinary(attachments[value.num])) throw new Error("no such attachment");
      return attachments[value.num];
    }
    for (const key of Object.keys(value)) value[key] = attach(value[key], attachments);
    return value;
  }

  async function toBase64(binary) {
    const buffer = binary instanceof Blob ? await binary.arrayBuffer() : binary;
    const bytes = ArrayBuffer.isView(buffer) ? new Uint8Array(buffer.buffer, buffer.byteOffset, buffer.byteLength) : new Uint8Array(buffer);
    let chars = "";
    for (let i = 0; i < bytes.length; i += 0x8000) chars += String.fromCharCode(...bytes.subarray(i, i + 0x8000));
    return btoa(chars);
  }

  function fromBase64(text) {
    return Uint8Array.from(atob(text), (c) => c.charCodeAt(0)).buffer;
  }

  // ---- Transports ------------------------------------------------------------------------

  // Both have the same shape. They call onpacket(packet), ondrain() when they can take more,
  // and onend(reason, error) at most once, none of them after stop().

  class Polling {
    name = "polling";
    writable = false;
    #url;
    #opts;
    #abort = new AbortController();
    #polling = false;
    #posting = false;
    #paused = null; // what to do once nothing is on its way

    constructor(url, opts) {
      this.#url = url;
      this.#opts = opts;
    }

    open() {
      this.#poll();
    }

    // send takes over packets and calls ondrain when the server has them.
    async send(packets) {
      this.writable = false;
      this.#posting = true;
      try {
        const parts = await Promise.all(packets.map(async (p) => (typeof p === "string" ? p : "b" + (await toBase64(p)))));
        await this.#request({ method: "POST", body: parts.join(SEPARATOR) });
      } catch (error) {
        return this.#fail(error);
      }
      this.#posting = false;
      this.writable = true;
      this.ondrain();
      this.#settle();
    }

    // pause polls no more and calls done once no request is on its way; resume goes on.
    pause(done) {
      this.#paused = done;
      this.#settle();
    }

    resume() {
      this.#paused = null;
      this.writable = !this.#posting;
      if (!this.#polling) this.#poll();
    }

    // farewell sends texts in a request that outlives the page. A browser takes 64 KiB of
    // these; what is longer goes without the packets that were waiting.
    farewell(waiting, last) {
      let body = [...waiting.filter((p) => typeof p === "string"), ...last].join(SEPARATOR);
      if (body.length > 16000) body = last.join(SEPARATOR);
      this.#request({ method: "POST", body, keepalive: true, signal: undefined }).catch(() => {
        // The page is gone; there is nobody left to tell.
      });
      this.stop();
    }

    stop() {
      this.onpacket = this.ondrain = this.onend = () => {};
      this.#abort.abort();
    }

    async #poll() {
      this.#polling = true;
      let packets;
      try {
        const text = await this.#request({ method: "GET" });
        packets = text.split(SEPARATOR).map((p) => (p[0] === "b" ? fromBase64(p.slice(1)) : p));
      } catch (error) {
        return this.#fail(error);
      }
      this.#polling = false;
      if (!this.#posting) this.writable = true;
      for (const p of packets) this.onpacket(p);
      if (this.#paused) this.#settle();
      else if (!this.#abort.signal.aborted && !this.#polling) this.#poll();
    }

    #settle() {
      if (!this.#paused || this.#polling || this.#posting) return;
      const done = this.#paused;
      this.writable = false;
      done();
    }

    async #request(init) {
      const response = await fetch(this.#url(this.name), {
        cache: "no-store",
        credentials: this.#opts.withCredentials ? "include" : "same-origin",
        headers: this.#opts.extraHeaders,
        signal: this.#abort.signal,
        ...init,
      });
      const text = await response.text();
      if (!response.ok) {
        const error = new Error("polling: status " + response.status + " " + text.slice(0, 200));
        error.status = response.status;
        throw error;
      }
      return text;
    }

    #fail(error) {
      const { onend } = this;
      const aborted = this.#abort.signal.aborted;
      this.stop();
      if (!aborted) onend("transport error", error);
    }
  }

  class WebSockets {
    name = "websocket";
    writable = false;
    #url;
    #ws;

    constructor(url) {
      this.#url = url;
    }

    // open throws nothing: an address that WebSocket refuses ends this as a lost one does.
    open() {
      try {
        this.#ws = new WebSocket(this.#url(this.name).replace(/^http/, "ws"));
      } catch (error) {
        queueMicrotask(() => this.onend("transport error", error));
        return;
      }
      this.#ws.binaryType = "arraybuffer";
      this.#ws.onopen = () => {
        this.writable = true;
        this.ondrain();
      };
      this.#ws.onmessage = (event) => this.onpacket(event.data);
      this.#ws.onerror = () => this.#end("transport error", new Error("websocket error"));
      this.#ws.onclose = (event) => this.#end("transport close", new Error("websocket closed: code " + event.code));
    }

    send(packets) {
      for (const p of packets) this.#ws.send(p);
    }

    farewell(waiting, last) {
      if (this.writable) this.send([...waiting, ...last]);
      this.stop();
    }

    stop() {
      this.onpacket = this.ondrain = this.onend = () => {};
      this.writable = false;
      if (this.#ws) this.#ws.close();
    }

    #end(reason, error) {
      const { onend } = this;
      this.stop();
      onend(reason, error);
    }
  }

  // ---- Engine ----------------------------------------------------------------------------

  // An Engine is one Engine.IO session, from its handshake to its end. It fires open,
  // data(text or ArrayBuffer), ping, upgrade(transport), upgradeError(error) and, once,
  // close(reason, error).
  class Engine extends Emitter {
    id = ""; // the session's id, from the handshake
    state = "opening"; // then open, closing, closed
    transport;
    #origin;
    #opts;
    #names; // of transports yet to try
    #waiting = []; // packets for the transport
    #probe = null; // the WebSocket being tried while polling goes on
    #switching = false; // the probe was answered, and polling is being paused
    #maxPayload = Infinity;
    #heartbeat; // ms that may pass between two pings
    #deadline = Infinity;
    #timer;

    constructor(origin, opts) {
      super();
      this.#origin = origin;
      this.#opts = opts;
      this.#names = [...opts.transports];
    }

    open() {
      const name = this.#names.shift();
      const kinds = { polling: Polling, websocket: WebSockets };
      if (!kinds[name]) {
        queueMicrotask(() => this.lost("transport error", new Error("no transport named " + name)));
        return;
      }
      this.#use(this.#make(kinds[name]));
      this.transport.open();
    }

    write(packets) {
      if (this.state !== "open") return;
      this.#waiting.push(...packets);
      this.#flush();
    }

    // close sends what is waiting, says goodbye and ends. The one who calls it is done with
    // this engine, so close fires nothing more.
    close() {
      this.off();
      if (this.state === "opening" && this.transport.name === "websocket") this.lost();
      if (this.state === "closed") return;
      this.state = "closing";
      clearTimeout(this.#timer);
      this.#timer = setTimeout(() => this.lost(), this.#opts.timeout); // a server that doesn't take the goodbye
      if (this.#probe && !this.#switching) this.#dropProbe();
      this.#flush();
    }

    // farewell is close for a page that is going away: there will be no answers to wait for.
    farewell(packets) {
      this.off();
      if (this.#probe) this.#dropProbe();
      if (this.id) this.transport.farewell(this.#waiting, [...packets, ...(this.transport.name === "polling" ? [CLOSE] : [])]);
      this.lost();
    }

    // lost ends the session without a word to the server.
    lost(reason, error) {
      if (this.state === "closed") return;
      this.state = "closed";
      clearTimeout(this.#timer);
      if (this.#probe) this.#dropProbe();
      if (this.transport) this.transport.stop();
      this.fire("close", reason, error);
    }

    // alive is false if the server's ping is overdue. The timer says so too, but not while a
    // computer sleeps, nor in time in a tab that the browser has slowed down.
    alive() {
      if (this.state === "open" && Date.now() > this.#deadline) this.lost("ping timeout");
      return this.state === "open";
    }

    #make(Kind) {
      return new Kind((name) => {
        const query = new URLSearchParams(this.#opts.query);
        query.set("EIO", "4");
        query.set("transport", name);
        query.set("t", Date.now().toString(36) + Math.random().toString(36).slice(2, 6)); // no cache shall answer
        if (this.id) query.set("sid", this.id);
        return this.#origin + this.#opts.path + "?" + query;
      }, this.#opts);
    }

    #use(transport) {
      this.transport = transport;
      transport.onpacket = (p) => this.#receive(p);
      transport.ondrain = () => this.#flush();
      transport.onend = (reason, error) => {
        if (this.state === "opening" && this.#opts.tryAllTransports && this.#names.length > 0) this.open();
        else this.lost(reason, error);
      };
    }

    #receive(packet) {
      if (this.state === "closed") return;
      if (typeof packet !== "string") return this.fire("data", packet);
      switch (packet[0]) {
        case OPEN:
          return this.#handshake(packet.slice(1));
        case CLOSE:
          return this.lost("transport close");
        case PING:
          this.#expectPing();
          this.write([PONG]);
          return this.fire("ping");
        case MESSAGE:
          return this.fire("data", packet.slice(1));
        case NOOP:
          return;
      }
      this.lost("parse error", new Error("not an Engine.IO packet"));
    }

    #handshake(json) {
      let hello;
      try {
        hello = JSON.parse(json);
      } catch (error) {
        return this.lost("parse error", error);
      }
      this.id = hello.sid;
      if (this.state !== "opening") return this.#flush(); // closed meanwhile: now there is somebody to tell
      this.state = "open";
      this.#maxPayload = hello.maxPayload || Infinity;
      this.#heartbeat = hello.pingInterval + hello.pingTimeout;
      this.#expectPing();
      this.fire("open");
      if (this.state === "open" && this.transport.name === "polling" && this.#opts.upgrade && (hello.upgrades || []).includes("websocket") && this.#opts.transports.includes("websocket")) {
        this.#upgrade();
      }
    }

    #expectPing() {
      clearTimeout(this.#timer);
      this.#deadline = Date.now() + this.#heartbeat;
      this.#timer = setTimeout(() => this.lost("ping timeout"), this.#heartbeat);
    }

    // flush hands over what is waiting, to polling no more at once than the server takes, and
    // says goodbye after the last of it.
    #flush() {
      if (this.state === "closed" || this.#switching || !this.transport.writable) return;
      const polling = this.transport.name === "polling";
      let take = 0;
      for (let size = 0; take < this.#waiting.length; take++) {
        const p = this.#waiting[take];
        size += 1 + (typeof p === "string" ? 3 * p.length : 2 * (p.byteLength ?? p.size)); // at most, in UTF-8 or base64
        if (polling && take > 0 && size > this.#maxPayload) break;
      }
      if (take > 0) this.transport.send(this.#waiting.splice(0, take));
      if (this.state !== "closing" || !this.transport.writable) return;
      if (polling) this.transport.farewell([], [CLOSE]);
      this.lost();
    }

    // upgrade tries a WebSocket beside the polling: "2probe" out, "3probe" back, then polling
    // is paused, so that nothing is on its way there, "5" out, and the WebSocket has it all.
    // If the try fails, polling just goes on.
    #upgrade() {
      const probe = this.#make(WebSockets);
      this.#probe = probe;
      probe.ondrain = () => probe.send([PING + "probe"]);
      probe.onpacket = (packet) => {
        if (packet !== PONG + "probe") return probe.onend("transport error", new Error("probe not answered"));
        this.#switching = true;
        this.transport.pause(() => {
          this.#probe = null;
          this.#switching = false;
          this.transport.stop();
          this.#use(probe);
          probe.send([UPGRADE]);
          this.fire("upgrade", probe);
          this.#flush();
        });
      };
      probe.onend = (reason, error) => {
        this.#dropProbe();
        this.transport.resume();
        this.fire("upgradeError", error);
        this.#flush();
      };
      probe.open();
    }

    #dropProbe() {
      this.#probe.stop();
      this.#probe = null;
      this.#switching = false;
    }
  }

  // ---- Manager ---------------------------------------------------------------------------

  // A Manager keeps one connection for the sockets of its namespaces and comes back after a
  // loss. It is a socket's io property. It fires open, close(reason), error(error), ping,
  // reconnect_attempt(n), reconnect(n), reconnect_error(error) and reconnect_failed.
  class Manager extends Emitter {
    opts;
    engine = null;
    #origin;
    #state = "closed"; // opening, open
    #sockets = new Map(); // namespace -> Socket
    #active = new Set(); // the sockets that want to be connected
    #attempts = 0; // of coming back, since the last success
    #retry; // timer of the next one
    #timeout; // timer of opening
    #partial = null; // a packet whose attachments are arriving
    #hidden = false; // the page is gone, perhaps to come back
    #upgraded = false; // a WebSocket worked the last time

    constructor(origin, opts) {
      super();
      this.#origin = origin;
      this.opts = { ...defaults, ...opts };
      if (!this.opts.path.endsWith("/")) this.opts.path += "/";
    }

    // socket returns the one of a namespace, the same each time.
    socket(namespace, opts) {
      let socket = this.#sockets.get(namespace);
      if (!socket) {
        socket = new Socket(this, namespace, opts);
        this.#sockets.set(namespace, socket);
      }
      if (this.opts.autoConnect) socket.connect();
      return socket;
    }

    has(namespace) {
      return this.#sockets.has(namespace);
    }

    // activate and deactivate say whether a socket wants to be connected.
    activate(socket) {
      this.#active.add(socket);
      live.add(this);
      if (this.#state === "open") socket.onopen();
      else if (!this.#retry) this.#open();
    }

    deactivate(socket) {
      this.#active.delete(socket);
      if (this.#active.size > 0) return;
      const engine = this.engine;
      this.#reset();
      this.#attempts = 0;
      live.delete(this);
      if (engine) engine.close();
    }

    active(socket) {
      return this.#active.has(socket);
    }

    // wake is called when there is reason to think that now is a good time: the network is
    // back, or somebody looks at the page again.
    wake() {
      const back = this.#hidden;
      this.#hidden = false;
      if (this.engine) this.engine.alive();
      if (back) this.#open();
      else if (this.#retry) this.#reopen();
    }

    // hide says goodbye for every socket, for the page is going away; wake undoes it.
    hide() {
      this.#hidden = true;
      if (this.engine) this.engine.farewell([...this.#active].filter((s) => s.connected).flatMap((s) => encode(DISCONNECT, s.nsp)));
      this.#lost("transport close");
    }

    // offline: what the network has swallowed won't be noticed for long, so don't wait.
    offline() {
      if (this.engine) this.engine.lost("transport close", new Error("network gone"));
    }

    #open() {
      if (this.#state !== "closed" || this.#hidden) return;
      this.#state = "opening";
      const opts = { ...this.opts };
      if (opts.rememberUpgrade && this.#upgraded) opts.transports = ["websocket", ...opts.transports];
      this.#upgraded = false;
      const engine = (this.engine = new Engine(this.#origin, opts));
      engine.on("open", () => this.#opened());
      engine.on("data", (data) => this.#receive(data));
      engine.on("ping", () => this.fire("ping"));
      engine.on("upgrade", () => (this.#upgraded = true));
      engine.on("close", (reason, error) => this.#lost(reason, error));
      if (this.opts.timeout > 0) this.#timeout = setTimeout(() => engine.lost("timeout", new Error("timeout")), this.opts.timeout);
      engine.open();
    }

    #opened() {
      clearTimeout(this.#timeout);
      this.#state = "open";
      this.#upgraded = this.engine.transport.name === "websocket";
      const attempts = this.#attempts;
      this.#attempts = 0;
      this.fire("open");
      for (const socket of [...this.#active]) socket.onopen();
      if (attempts > 0) this.fire("reconnect", attempts);
    }

    // lost is the end of a connection, or of the try to open one.
    #lost(reason, error = new Error(reason)) {
      const was = this.#state;
      this.#reset();
      if (was === "closed") return;
      if (was === "open") {
        this.fire("close", reason, error);
        for (const socket of [...this.#active]) socket.onlost(reason, error);
      } else {
        this.fire("error", error);
        if (this.#attempts > 0) this.fire("reconnect_error", error);
        for (const socket of [...this.#active]) if (socket.active) socket.fire("connect_error", error);
      }
      this.#comeBack();
    }

    #reset() {
      clearTimeout(this.#timeout);
      clearTimeout(this.#retry);
      this.#retry = undefined;
      this.#state = "closed";
      this.#partial = null;
      if (this.engine) this.engine.off();
      this.engine = null;
    }

    // comeBack sets the timer for the next try. Delays double, and each is another, so that
    // a server that comes back isn't met by all of its clients in the same instant.
    #comeBack() {
      const { opts } = this;
      if (this.#hidden || this.#active.size === 0 || this.#state !== "closed" || this.#retry) return;
      if (!opts.reconnection || this.#attempts >= opts.reconnectionAttempts) {
        this.#attempts = 0;
        this.#active.clear();
        live.delete(this);
        if (opts.reconnection) this.fire("reconnect_failed");
        return;
      }
      const delay = Math.min(opts.reconnectionDelay * 2 ** this.#attempts, opts.reconnectionDelayMax);
      const low = delay * (1 - opts.randomizationFactor);
      const high = Math.min(delay * (1 + opts.randomizationFactor), opts.reconnectionDelayMax);
      this.#retry = setTimeout(() => this.#reopen(), low + Math.random() * (high - low));
    }

    #reopen() {
      clearTimeout(this.#retry);
      this.#retry = undefined;
      this.fire("reconnect_attempt", ++this.#attempts);
      if (this.#active.size > 0) this.#open();
    }

    // receive takes a message of the engine: a packet's text, or an attachment of the last.
    #receive(data) {
      let packet = this.#partial;
      try {
        if (typeof data === "string") {
          if (packet) throw new Error("attachments are missing");
          packet = decode(data);
          packet.parts = [];
        } else {
          if (!packet) throw new Error("an attachment of nothing");
          packet.parts.push(data);
        }
        this.#partial = packet.parts.length < packet.attachments ? packet : null;
        if (this.#partial) return;
        if (packet.parts.length > 0) packet.data = attach(packet.data, packet.parts);
      } catch (error) {
        return this.engine.lost("parse error", error);
      }
      const socket = this.#sockets.get(packet.namespace);
      if (socket && socket.active) socket.onpacket(packet);
      else if (packet.type === CONNECT) this.engine.write(encode(DISCONNECT, packet.namespace)); // no longer wanted
    }
  }

  // ---- Socket ----------------------------------------------------------------------------

  // A Socket is one namespace of a connection, and what a page holds. It fires connect,
  // disconnect(reason), connect_error(error), and the server's events.
  //
  // Reasons: "io client disconnect" and "io server disconnect" are somebody's wish, and it
  // stays away until connect(). "transport close", "transport error", "ping timeout" and
  // "parse error" are losses, and it comes back by itself. After a connect_error it comes
  // back as well if the server couldn't be reached (active is true), not if it refused.
  class Socket extends Emitter {
    io;
    nsp;
    auth;
    id; // given by the server, undefined while not connected
    connected = false;
    recovered = false; // the server remembered us, and nothing was missed
    #pid; // names this session in recovery
    #offset; // the last event we have of it
    #flags = {};
    #acks = new Map(); // id -> { fn, withError, timer }
    #nextId = 0;
    #sendBuffer = []; // { id, packets } emitted while away
    #receiveBuffer = []; // events that overtook the server's CONNECT
    #any = [];

    constructor(manager, namespace, opts = {}) {
      super();
      this.io = manager;
      this.nsp = namespace;
      this.auth = opts.auth;
    }

    get disconnected() {
      return !this.connected;
    }

    // active is whether this socket is connected or will try to be.
    get active() {
      return this.io.active(this);
    }

    connect() {
      if (!this.connected) this.io.activate(this);
      return this;
    }

    disconnect() {
      if (this.connected) this.#send(encode(DISCONNECT, this.nsp));
      this.io.deactivate(this);
      this.onlost("io client disconnect");
      return this;
    }

    // emit sends an event. A function as last argument gets the server's answer; after
    // timeout(ms) it gets an Error or null first, and then the answer.
    emit(event, ...args) {
      if (RESERVED.has(event)) throw new Error('"' + event + '" is a reserved event name');
      const { timeout = this.io.opts.ackTimeout, volatile } = this.#flags;
      this.#flags = {};
      const fn = typeof args[args.length - 1] === "function" ? args.pop() : undefined;
      const id = fn && this.#nextId++;
      const packets = encode(EVENT, this.nsp, [event, ...args], id);
      const ready = this.connected && this.io.engine.alive();
      if (fn) this.#expectAck(id, fn, timeout);
      if (ready) {
        if (!volatile || this.io.engine.transport.writable) this.#send(packets);
      } else if (!volatile) {
        this.#sendBuffer.push({ id, packets });
      }
      return this;
    }

    // emitWithAck is emit with the answer as a promise. It is rejected when timeout(ms) is
    // over or the connection is lost before the answer.
    emitWithAck(event, ...args) {
      return new Promise((resolve, reject) => {
        const settle = (error, answer) => (error ? reject(error) : resolve(answer));
        settle.withError = true;
        this.emit(event, ...args, settle);
      });
    }

    send(...args) {
      return this.emit("message", ...args);
    }

    // timeout and volatile are for the next emit: socket.timeout(5000).emit("hi", (err) => …).
    timeout(ms) {
      this.#flags.timeout = ms;
      return this;
    }

    // volatile: drop the event rather than keep it while it can't be sent.
    get volatile() {
      this.#flags.volatile = true;
      return this;
    }

    // compress is there for scripts that call it; a browser decides that alone.
    compress() {
      return this;
    }

    // onAny's handlers see each event of the server first, with its name.
    onAny(fn) {
      this.#any.push(fn);
      return this;
    }

    offAny(fn) {
      this.#any = fn ? this.#any.filter((other) => other !== fn) : [];
      return this;
    }

    // The rest is for Manager to call.

    // onopen asks for our namespace, and for what we missed if the server told us how.
    onopen() {
      const engine = this.io.engine;
      const ask = (auth) => {
        if (engine !== this.io.engine || !this.active) return;
        const data = this.#pid ? { pid: this.#pid, offset: this.#offset, ...auth } : auth;
        this.#send(encode(CONNECT, this.nsp, data));
      };
      if (typeof this.auth === "function") this.auth(ask);
      else ask(this.auth);
    }

    onlost(reason, error) {
      this.#receiveBuffer = [];
      const kept = new Set(this.#sendBuffer.map((p) => p.id));
      for (const [id, ack] of [...this.#acks]) {
        if (!kept.has(id)) this.#dropAck(id, ack, "socket has been disconnected");
      }
      if (!this.connected) return;
      this.connected = false;
      this.id = undefined;
      this.fire("disconnect", reason, error);
    }

    onpacket({ type, id, data }) {
      switch (type) {
        case CONNECT:
          return this.#connected(data || {});
        case CONNECT_ERROR: {
          const error = new Error(typeof data === "string" ? data : data.message);
          error.data = data.data;
          this.io.deactivate(this);
          return this.fire("connect_error", error);
        }
        case DISCONNECT:
          this.io.deactivate(this);
          return this.onlost("io server disconnect");
        case ACK:
        case BINARY_ACK: {
          const ack = this.#acks.get(id);
          if (!ack) return; // late, or not ours
          this.#acks.delete(id);
          clearTimeout(ack.timer);
          return call(ack.fn, this, ack.withError ? [null, ...data] : data);
        }
        default: {
          const args = id === undefined ? data : [...data, this.#acker(id)];
          if (this.connected) this.#event(args, data);
          else this.#receiveBuffer.push([args, data]);
        }
      }
    }

    #connected({ sid, pid }) {
      this.recovered = pid !== undefined && pid === this.#pid;
      if (!this.recovered) this.#offset = undefined;
      this.#pid = pid;
      this.id = sid;
      this.connected = true;
      for (const [args, data] of this.#receiveBuffer.splice(0)) this.#event(args, data);
      for (const { packets } of this.#sendBuffer.splice(0)) this.#send(packets);
      this.fire("connect");
    }

    // event hands an event to the page. In recovery the last argument of each is its offset.
    #event(args, data) {
      for (const fn of [...this.#any]) call(fn, this, args);
      this.fire(...args);
      const last = data[data.length - 1];
      if (this.#pid && data.length > 1 && typeof last === "string") this.#offset = last;
    }

    // acker returns the function that answers event id, once, on the connection it came by.
    #acker(id) {
      const engine = this.io.engine;
      let answered = false;
      return (...args) => {
        if (answered || !this.connected || engine !== this.io.engine) return;
        answered = true;
        this.#send(encode(ACK, this.nsp, args, id));
      };
    }

    #expectAck(id, fn, timeout) {
      const ack = { fn, withError: timeout !== undefined || fn.withError === true };
      this.#acks.set(id, ack);
      if (timeout === undefined) return;
      ack.timer = setTimeout(() => {
        this.#sendBuffer = this.#sendBuffer.filter((p) => p.id !== id); // too late to be sent
        this.#dropAck(id, ack, "operation has timed out");
      }, timeout);
    }

    #dropAck(id, ack, why) {
      this.#acks.delete(id);
      clearTimeout(ack.timer);
      if (ack.withError) call(ack.fn, this, [new Error(why)]);
    }

    #send(packets) {
      this.io.engine.write(packets);
    }
  }
  Socket.prototype.open = Socket.prototype.connect;
  Socket.prototype.close = Socket.prototype.disconnect;

  // ---- io --------------------------------------------------------------------------------

  const live = new Set(); // the managers that are connected or want to be
  const shared = new Map(); // those that a further io() call may share, by origin and path

  // lookup is io(url, options): without a url the page's own server, with a path that
  // namespace of it. Sockets of the same server share a connection, unless both are of one
  // namespace or an option says otherwise.
  function lookup(url, opts) {
    if (url !== null && typeof url === "object") [url, opts] = [undefined, url];
    opts = opts || {};
    let address = url || "/";
    if (address.startsWith("//")) address = location.protocol + address;
    else if (address.startsWith("/")) address = location.origin + address;
    else if (!/^\w+:\/\//.test(address)) address = location.protocol + "//" + address;
    const { protocol, host, pathname, search } = new URL(address);
    if (!/^(http|ws)s?:$/.test(protocol)) throw new Error("no address of a server: " + address);
    if (search && !opts.query) opts = { ...opts, query: search.slice(1) };

    const origin = protocol.replace("ws", "http") + "//" + host;
    const key = origin + " " + (opts.path || defaults.path);
    let manager = shared.get(key);
    if (opts.forceNew || opts.multiplex === false || (manager && manager.has(pathname))) {
      manager = new Manager(origin, opts);
    } else if (!manager) {
      manager = new Manager(origin, opts);
      shared.set(key, manager);
    }
    return manager.socket(pathname, opts);
  }

  // ---- What the browser tells ------------------------------------------------------------

  // A tab that closes says goodbye, so that the others see it leave at once. "pagehide" is
  // the last a page hears, on a phone too; a page that comes back from the browser's cache
  // hears "pageshow".
  function listen(event, fn) {
    if (typeof addEventListener === "function") addEventListener(event, fn);
  }
  const each = (method) => [...live].forEach((manager) => manager[method]());
  listen("pagehide", () => each("hide"));
  listen("pageshow", (event) => event.persisted && each("wake"));
  listen("online", () => each("wake"));
  listen("offline", () => each("offline"));
  listen("visibilitychange", () => document.visibilityState === "visible" && each("wake"));

  return Object.assign(lookup, { io: lookup, connect: lookup, Manager, Socket, protocol: 5 });
})();
