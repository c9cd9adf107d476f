// Usage: node page.mjs http://127.0.0.1:PORT/
//
// Asks a running browserchat for what a browser asks first, and fails if it isn't there.
import assert from "node:assert/strict";

const base = process.argv[2];

async function get(path, type) {
	const answer = await fetch(new URL(path, base), { signal: AbortSignal.timeout(10_000) });
	const text = await answer.text();
	assert.equal(answer.status, 200, `${path}: ${text}`);
	assert.match(answer.headers.get("content-type") ?? "", type, path);
	console.log(`${path}: ${text.length} characters, ${answer.headers.get("content-type")}`);
	return { text, headers: answer.headers };
}

const page = await get("/", /^text\/html\b/);
assert.match(page.text, /<script[^>]* src="\/socket\.io\/socket\.io\.js"/, "the page loads the script");
const policy = page.headers.get("content-security-policy") ?? "";
assert.match(policy, /./, "the page has a Content-Security-Policy");
assert.doesNotMatch(policy, /unsafe-inline/);

const script = await get("/socket.io/socket.io.js", /^(text|application)\/javascript\b/);
assert.match(script.text, /\bio\b/, "the script has io");
assert.ok(script.headers.get("etag"), "the script has an ETag");

const open = await get("/socket.io/?EIO=4&transport=polling", /^text\/plain\b/);
assert.equal(open.text[0], "0", "a handshake opens with packet 0");
assert.ok(JSON.parse(open.text.slice(1)).sid, "and gives the session an id");
