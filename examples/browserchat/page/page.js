// The chat page's script. It speaks the events of the original page:
//
//   sent      login(name, ack)  message({username, message, id}, ack)  loginOut()
//   received  loginSuccess()  notify(name)  updateUserList([{username}, …])
//             recevied(name, text)  loginOut(name), or loginOut(): a refusal
//
// An event may carry further arguments, such as the offset that socket.io.js
// comes back with after a loss. Where the server then gives us what we missed
// (socket.recovered) we are still in, and what we said goes on under its id:
// sent again, it is said once. Else there may be a gap, and the page says so.
//
// Strangers' text reaches the document through textContent alone. login, send, loginOut and
// message are global functions, as in the original.
"use strict";

const ROWS = 1000; // rows kept in the log; over it, the oldest SLACK go at once
const SLACK = 100;
const ACK_MS = 10_000; // how long a message may wait for its answer
const GHOST_MS = 60_000; // how long to go on asking for a name our lost connection holds
const ENDED_MS = 5_000; // a session's end and its connection's end this close are one event
const GROUP_MS = 180_000; // messages of one author this close stand together

const find = (id) => document.getElementById(id);
const account = find("account");
const info = find("info");
const text = find("text");
const userList = find("userList");
const state = find("state");
const hint = find("hint");
const newer = find("newer");

// ---- Language: the first of the browser's that is Chinese or English.

const language = (tag) => tag.toLowerCase().split("-")[0];
const locale = navigator.languages.find((tag) => ["zh", "en"].includes(language(tag))) ?? "zh-CN";
const english = language(locale) === "en";

// Each text in both, Chinese first.
const texts = {
  connecting: ["正在连接…", "Connecting…"],
  on: ["已连接", "Connected"],
  off: ["连接已断开，正在重连…", "Connection lost, reconnecting…"],
  gone: ["服务器断开了连接", "The server ended the connection"],
  noClient: ["socket.io.js 没有加载，请刷新页面。", "socket.io.js did not load. Reload the page."],
  loginSuccess: [(name) => `${name}登陆成功！`, (name) => `${name} is logged in.`],
  joined: [(name) => `${name}加入进来了!`, (name) => `${name} joined.`],
  left: [(name) => `${name}退出了群聊！`, (name) => `${name} left.`],
  noName: ["请输入账号！", "Please enter a name."],
  loggedIn: ["您已登陆！", "You are logged in already."],
  noText: ["请输入消息", "Please enter a message."],
  notIn: ["您未登陆！", "You are not logged in."],
  later: ["连接成功后会自动登陆。", "You will be logged in as soon as there is a connection."],
  refused: [
    (name) => `“${name}”未被接受：已有人使用，或不允许使用。请换一个名字。`,
    (name) => `“${name}” was refused: it is taken or not allowed. Please choose another name.`,
  ],
  ghost: [
    (name) => `“${name}”仍被断开前的连接占用，正在自动重试…`,
    (name) => `“${name}” is still held by your lost connection. Trying again…`,
  ],
  ghostStays: [
    (name) => `“${name}”仍被占用。请稍后再登陆，或换一个名字。`,
    (name) => `“${name}” is still taken. Log in again later, or choose another name.`,
  ],
  gap: ["已重新连接，断开期间的消息可能没有显示。", "Connected again. Messages from in between may be missing."],
  you: ["(本人)", " (you)"],
  sending: ["发送中…", "Sending…"],
  waiting: ["等待连接…", "Waiting for the connection…"],
  unsure: ["未确认，可能已送达。", "Not confirmed, it may have arrived."],
  failed: [(why) => (why ? `未发送：${why}。` : "未发送。"), (why) => (why ? `Not sent: ${why}.` : "Not sent.")],
  error_text: ["含有不允许的内容", "it holds what is not allowed"],
  error_text_too_long: [(max) => `超过 ${max} 字节`, (max) => `it is longer than ${max} bytes`],
  error_rate: ["发送太快，请稍候", "too many at once, wait a moment"],
  error_closed: ["聊天室已关闭", "the room is closed"],
  retry: ["重试", "Send again"],
  edit: ["编辑", "Edit"],
  newer: [(n) => `${n} 条新消息`, (n) => (n === 1 ? "1 new message" : `${n} new messages`)],
};
const t = Object.fromEntries(Object.entries(texts).map(([key, pair]) => [key, pair[english ? 1 : 0]]));

document.documentElement.lang = english ? "en" : "zh-CN";
if (english) {
  for (const e of document.querySelectorAll("[data-en]")) e.textContent = e.dataset.en;
  for (const e of document.querySelectorAll("[data-en-label]")) e.ariaLabel = e.dataset.enLabel;
  for (const e of document.querySelectorAll("[data-en-placeholder]")) {
    if ("placeholder" in e) e.placeholder = e.dataset.enPlaceholder;
    else e.dataset.placeholder = e.dataset.enPlaceholder;
  }
}
const title = document.title;
const clock = new Intl.DateTimeFormat(locale, { hour: "2-digit", minute: "2-digit" });
const calendar = new Intl.DateTimeFormat(locale, { dateStyle: "full" });
const stamp = new Intl.DateTimeFormat(locale, { dateStyle: "long", timeStyle: "medium" });

// ---- The log. It stays at its end until somebody scrolls up.

let stick = true; // at the end, and following it
let lastTop = 0; // scrollTop when last looked at
let unread = 0; // messages below the fold while scrolled up
let missed = 0; // messages that came while the tab was hidden
let lastDay = "";
let frame = 0; // the animation frame that will scroll, 0 for none

function element(tag, className, content = "") {
  const e = document.createElement(tag);
  e.className = className;
  e.textContent = content;
  return e;
}

// message shows one line: status 1 is good news, 0 an error, 2 neither.
// (The original's 3, what somebody said, is said's work here.)
function message(line, status) {
  const last = text.lastElementChild;
  if (status === 0 && last?.matches(".error") && last.firstChild.textContent === line) last.remove();
  const row = element("div", `row line ${{ 0: "error", 1: "good" }[status] ?? "plain"}`);
  row.append(element("span", "what", line));
  append(row);
}

// said shows what somebody said and returns its row.
function said(name, words, own) {
  const row = element("div", `row said c${color(name)}${own ? " own" : ""}`);
  row.dataset.from = name;
  row.dataset.initial = initial(name);
  const who = element("span", "who", name);
  const what = element("span", "what", words);
  who.dir = what.dir = "auto";
  row.append(who, element("span", "aside", ": "), what);
  append(row);
  if (!own && !stick) unread++;
  if (!own && document.hidden) missed++;
  showCounts();
  return row;
}

function append(row) {
  const now = new Date();
  const day = now.toDateString();
  if (lastDay && lastDay !== day) text.append(element("div", "row line day", calendar.format(now)));
  lastDay = day;
  const time = element("time", "time", clock.format(now));
  time.dateTime = now.toISOString();
  time.title = stamp.format(now);
  row.append(time);
  place(row);
}

// place puts a row, new or moved, at the end of the log.
function place(row) {
  const next = row.nextElementSibling;
  text.append(row);
  group(row);
  if (next) group(next);
  if (text.childElementCount > ROWS) trim();
  if (stick) toEnd();
}

function group(row) {
  const before = row.previousElementSibling;
  const time = (r) => Date.parse(r.querySelector("time").dateTime);
  const same = row.dataset.from && before?.dataset.from === row.dataset.from;
  row.classList.toggle("same", Boolean(same) && time(row) - time(before) < GROUP_MS);
}

function trim() {
  const top = stick ? 0 : text.scrollTop; // following needs no look at the layout
  const height = stick ? 0 : text.scrollHeight;
  for (let i = 0; i < SLACK; i++) text.firstElementChild.remove();
  group(text.firstElementChild);
  if (!stick) text.scrollTop = top - (height - text.scrollHeight); // what is read stays in place
  lastTop = stick ? 0 : text.scrollTop;
}

function toEnd() {
  stick = true;
  unread = 0;
  showCounts();
  frame ||= requestAnimationFrame(() => {
    frame = 0;
    if (!stick) return;
    text.scrollTop = text.scrollHeight;
    lastTop = text.scrollTop;
  });
}

function showCounts() {
  const label = t.newer(unread);
  if (newer.textContent !== label) newer.textContent = label;
  newer.hidden = unread === 0;
  const want = missed ? `(${missed}) ${title}` : title;
  if (document.title !== want) document.title = want;
}

// Only a move upwards lets go of the end: growth alone never does.
text.addEventListener("scroll", () => {
  const top = text.scrollTop;
  if (text.scrollHeight - top - text.clientHeight < 32) {
    stick = true;
    unread = 0;
    showCounts();
  } else if (top < lastTop) {
    stick = false;
  }
  lastTop = top;
});
new ResizeObserver(() => stick && toEnd()).observe(text);
newer.addEventListener("click", () => {
  toEnd();
  focusInput();
});
document.addEventListener("visibilitychange", () => {
  if (!document.hidden) missed = 0;
  showCounts();
});

// ---- Names

// fold is near enough to the comparison of RFC 8266 to know our own name by as
// the room writes it. ours compares; mine also asks that we are known to be in:
// until then the name may be somebody else's.
const fold = (name) => name.normalize("NFKC").trim().replace(/\s+/g, " ").toLowerCase();
const ours = (name) => people.username !== "" && fold(name) === fold(people.username);
const mine = (name) => phase === "in" && seen && ours(name);
const initial = (name) => [...name][0]?.toUpperCase() ?? "";

function color(name) {
  let sum = 0;
  for (const c of fold(name)) sum = (sum * 31 + c.codePointAt(0)) % 9973;
  return sum % 6;
}

// drawUsers makes the list show users, keeping the items that stay.
let users = [];
const items = new Map(); // name → li

function drawUsers() {
  const names = new Set(users);
  for (const [name, li] of items) {
    if (names.has(name)) continue;
    li.remove();
    items.delete(name);
  }
  let at = userList.firstElementChild;
  for (const name of names) {
    let li = items.get(name);
    if (!li) {
      li = element("li", `c${color(name)}`);
      li.dataset.initial = initial(name);
      li.append(element("span", "who", name));
      li.firstChild.dir = "auto";
      items.set(name, li);
    }
    const own = mine(name);
    if (own !== li.classList.contains("own")) {
      li.classList.toggle("own", own);
      if (own) li.append(element("span", "you", t.you));
      else li.lastChild.remove();
    }
    if (li === at) at = at.nextElementSibling;
    else userList.insertBefore(li, at);
  }
  find("count").textContent = names.size;
}

// ---- Logging in and out
//
// The server's word counts: loginSuccess makes us in whatever we thought, our
// own loginOut makes us out. An argument-less loginOut means what the phase
// makes of it.

let people = { username: "", message: "" };
let phase = "out"; // out; asking: first login under way; in; back: was in, connection lost
let asked = ""; // the name we asked for last
let seen = false; // our own notify came since loginSuccess
let ended = ""; // our name, for a moment, when the server ended our session
let leaving = false; // logged out while away: the server is still to be told, before all else
let ghost = null; // while our lost connection holds our name: {since, tries, timer, freed}
const newGhost = () => ({ since: performance.now(), tries: 0, timer: 0, freed: false });

if (typeof io !== "function") {
  state.textContent = t.noClient;
  throw new Error(t.noClient);
}
const socket = io();

function setPhase(next, note = "") {
  phase = next;
  const member = phase === "in" || phase === "back";
  find("loginForm").hidden = member;
  find("sendForm").hidden = !member;
  find("leave").hidden = phase === "out";
  find("me").parentElement.hidden = !member;
  find("me").textContent = people.username;
  account.readOnly = phase === "asking";
  account.ariaInvalid = phase === "out" && note ? "true" : null;
  hint.textContent = note;
  drawUsers();
}

function focusInput() {
  (phase === "in" || phase === "back" ? info : account).focus();
}

function login() {
  const name = account.value.trim();
  if (phase === "in" || phase === "back") return message(t.loggedIn, 0);
  if (phase === "asking") return;
  if (!name) {
    account.focus();
    return message(t.noName, 0);
  }
  people = { username: name, message: "" };
  setPhase("asking", socket.connected ? "" : t.later);
  if (document.body.dataset.link === "gone") reconnect();
  ask();
}

// ask sends login, now or as soon as there is a connection. What is emitted
// without one would be sent ahead of it, so nothing is.
function ask() {
  asked = people.username;
  ended = "";
  if (ghost) ghost.timer = 0;
  if (!socket.connected || leaving) return;
  socket.emit("login", asked, (answer) => {
    if (answer?.error === "logged_in" && phase !== "in") enter(true); // we are: the answer was lost with the connection
  });
}

function loginOut() {
  if (socket.connected) socket.emit("loginOut");
  else if (phase === "out") message(t.notIn, 0);
  else leaving = true;
  ended = "";
  goOut("");
}

// goOut makes us a spectator again, with name offered for the next login.
function goOut(name, note) {
  stopGhost();
  people = { username: "", message: "" };
  account.value = name;
  setPhase("out", note);
  unsend();
  account.focus();
}

function stopGhost() {
  clearTimeout(ghost?.timer);
  ghost = null;
}

// refusedAgain asks again after a while; ghostLeft need not wait any longer.
function refusedAgain() {
  ghost ??= newGhost();
  const left = ghost.since + GHOST_MS - performance.now();
  if (left <= 0) return goOut(asked, t.ghostStays(asked));
  const wait = Math.min(1000 * 2 ** ghost.tries++, 8000) * (0.75 + Math.random() / 2);
  ghost.timer = setTimeout(ask, ghost.freed ? 0 : Math.min(wait, left));
  ghost.freed = false;
  hint.textContent ||= t.ghost(asked);
}

function ghostLeft() {
  ghost ??= newGhost();
  clearTimeout(ghost.timer);
  if (ghost.timer) ask();
  else ghost.freed = true; // a login is under way, and may have come too early
}

socket.on("loginSuccess", () => enter(false));

// enter makes us a member; noticed if our own notify has come already.
function enter(noticed) {
  const first = phase !== "back";
  if (phase === "out") people = { username: asked, message: "" };
  stopGhost();
  seen = noticed;
  setPhase("in");
  message(t.loginSuccess(people.username), 1);
  if (first) info.focus();
  pump();
}

socket.on("notify", (name) => {
  if (typeof name !== "string") return;
  if (phase === "in" && ours(name)) {
    seen = true;
    people.username = name; // as the room writes it
    setPhase("in");
  }
  message(t.joined(name), 1);
});

socket.on("updateUserList", (list) => {
  if (!Array.isArray(list)) return;
  users = list.map((user) => user?.username).filter((name) => typeof name === "string");
  drawUsers();
});

socket.on("loginOut", (name) => {
  if (leaving && !name) return; // we had not been in
  if (typeof name === "string" && name) {
    message(t.left(name), 2);
    if (mine(name)) {
      ended = name;
      setTimeout(() => (ended = ""), ENDED_MS);
      goOut(name);
    } else if (phase === "back" && ours(name)) {
      ghostLeft();
    }
    return;
  }
  if (phase === "asking") {
    goOut(asked, t.refused(asked));
    account.select();
  } else if (phase === "back") {
    refusedAgain();
  } else {
    if (phase === "in") goOut(people.username);
    message(t.notIn, 0);
  }
});

// ---- What we say: sent one at a time, in the order written.

// A post is {id, words, row, state, tries, timer, unsure}. Its state: waiting,
// sent, ok (accepted, not yet seen in the room's order) or failed. unsure: it
// was sent, and what became of it is not known.
const outbox = [];

function send() {
  const words = info.value;
  if (phase !== "in" && phase !== "back") return message(t.notIn, 0);
  info.focus();
  if (!words.trim()) return message(t.noText, 0);
  people.message = words;
  info.value = "";
  toEnd();
  const row = said(people.username, words, true);
  const post = { id: newID(), words, row, state: "", tries: 0, timer: 0, unsure: false };
  outbox.push(post);
  mark(post, "waiting");
  pump();
}

// newID needs only be unlike our others; crypto.randomUUID is for secure pages alone.
const newID = () => [...crypto.getRandomValues(new Uint32Array(4))].map((n) => n.toString(36)).join("");

function pump() {
  if (phase !== "in" || outbox.some((post) => post.state === "sent")) return;
  const post = outbox.find((p) => p.state === "waiting");
  if (!post) return;
  mark(post, "sent");
  const attempt = ++post.tries;
  post.timer = setTimeout(() => fail(post, t.unsure, true), ACK_MS);
  const said = { username: people.username, message: post.words, id: post.id };
  socket.emit("message", said, (answer) => {
    if (!outbox.includes(post)) return; // seen in the room already, or given up
    if (answer?.ok !== false) {
      mark(post, "ok");
      pump();
    } else if (attempt === post.tries && post.state !== "waiting") {
      const unsure = answer.error === "unknown"; // the room itself can't say whether it took it
      fail(post, unsure ? t.unsure : t.failed(reason(answer)), unsure);
    }
  });
}

// reason puts the answer's error word into the reader's language, if we have it.
function reason({ error, max }) {
  const known = t[`error_${error}`];
  return typeof known === "function" ? known(max) : known ?? error;
}

function fail(post, why, unsure) {
  post.unsure = unsure;
  mark(post, "failed", why);
  pump();
}

// mark puts a post into a state and shows it on its row.
function mark(post, next, why = "") {
  clearTimeout(post.timer);
  post.state = post.row.dataset.state = next;
  post.row.querySelector(".note")?.remove();
  if (next === "ok" || next === "seen") return;
  const note = element("span", "note", why || (phase === "in" ? t.sending : t.waiting));
  if (next === "failed") note.append(button(t.retry, () => again(post)), button(t.edit, () => edit(post)));
  else note.ariaHidden = "true"; // only bad news is read out
  post.row.append(note);
  if (stick) toEnd();
}

function button(label, act) {
  const b = element("button", "link", label);
  b.type = "button";
  b.addEventListener("click", act);
  return b;
}

function again(post) {
  if (phase !== "in" && phase !== "back") return message(t.notIn, 0);
  mark(post, "waiting");
  place(post.row);
  outbox.push(...outbox.splice(outbox.indexOf(post), 1)); // to the end, as its row
  info.focus();
  pump();
}

function edit(post) {
  outbox.splice(outbox.indexOf(post), 1);
  const next = post.row.nextElementSibling;
  post.row.remove();
  if (next) group(next);
  info.value = info.value ? `${post.words}\n${info.value}` : post.words;
  focusInput();
}

// unsend sorts the posts when there is no way to send: what waits goes on waiting
// unless we are out, and so does what was on its way and may have arrived.
function unsend() {
  for (const post of [...outbox]) {
    if (post.state === "sent" && phase === "out") fail(post, t.unsure, true);
    else if (post.state === "sent") waitUnsure(post);
    else if (post.state === "waiting" && post.unsure && phase === "out") fail(post, t.unsure, true);
    else if (post.state === "waiting" && phase === "out") fail(post, t.failed(), false);
    else if (post.state === "waiting") mark(post, "waiting");
  }
}

function waitUnsure(post) {
  post.unsure = true;
  mark(post, "waiting");
}

// anew is called where we are in by another session than before: an id means
// nothing to it, so what may have arrived is not sent again without asking.
function anew() {
  for (const post of [...outbox]) {
    if (post.state === "ok") outbox.splice(outbox.indexOf(post), 1);
    else if (post.unsure && post.state === "waiting") fail(post, t.unsure, true);
    post.id = newID();
  }
}

socket.on("recevied", (name, words) => {
  if (typeof name !== "string" || typeof words !== "string") return;
  if (!mine(name)) {
    said(name, words, false);
    return;
  }
  const same = outbox.filter((post) => post.words === words);
  const post =
    same.find((p) => p.state === "sent" || p.state === "ok") ??
    same.find((p) => p.unsure) ??
    outbox.find((p) => p.state === "ok"); // whatever became of the words: answers come in order
  if (!post) {
    said(name, words, true);
    return;
  }
  outbox.splice(outbox.indexOf(post), 1);
  mark(post, "seen");
  post.row.querySelector(".what").textContent = words;
  if (post.row !== text.lastElementChild) place(post.row); // the room's order counts
  pump();
});

// ---- The connection

let wasConnected = false;

function setLink(link) {
  document.body.dataset.link = link;
  state.textContent = t[link];
  find("reconnect").hidden = link !== "gone";
}

socket.on("connect", () => {
  setLink("on");
  if (wasConnected && !socket.recovered) {
    message(t.gap, 2);
    anew();
  }
  wasConnected = true;
  if (leaving && socket.recovered) return leave();
  leaving = false;
  if (phase === "back" && socket.recovered) {
    setPhase("in"); // the server kept our place
    pump();
  } else if (phase === "asking" || phase === "back") {
    ask();
  }
});

// leave tells the server what the user did while away. A login that follows waits for the answer.
function leave() {
  socket.emit("loginOut", () => {
    leaving = false;
    if (phase === "asking") ask();
  });
}

socket.on("connect_error", () => {
  if (socket.active === false) setLink("gone"); // refused: no further try by itself
  else if (!wasConnected) setLink("connecting");
});

socket.on("disconnect", (reason) => {
  clearTimeout(ghost?.timer);
  if (ghost) ghost.timer = 0;
  if (reason === "io server disconnect") { // its wish: only the user goes back
    setLink("gone");
    if (phase !== "out") goOut(people.username);
  } else {
    setLink("off");
    people.username ||= ended;
    if (phase === "in" || ended) setPhase("back");
  }
  ended = "";
  unsend();
});

function reconnect() {
  setLink("connecting");
  socket.connect();
}

// ---- Controls

// submitOn runs act for a form's button and for Enter; an Enter that only
// ends an input method's composition (key code 229 in Safari) is not one.
function submitOn(form, field, act) {
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    act();
  });
  field.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing || event.keyCode === 229) return;
    event.preventDefault();
    act();
  });
}

submitOn(find("loginForm"), account, login);
submitOn(find("sendForm"), info, send);
find("leave").addEventListener("click", loginOut);
find("reconnect").addEventListener("click", () => {
  reconnect();
  focusInput();
});
account.focus();
