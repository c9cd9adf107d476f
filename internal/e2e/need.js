// What the tests need beyond Node, or a plain line that says how to get it. Nothing here is
// ever skipped: a test that can't run fails.
import { existsSync } from "node:fs";
import { spawnSync } from "node:child_process";

async function dependency(name) {
  try {
    return await import(name);
  } catch (cause) {
    throw new Error(`${name} is not installed; run: npm ci`, { cause });
  }
}

export const { chromium } = (await dependency("playwright-core")).default;
export const { Server } = await dependency("socket.io");
export const officialClient = (await dependency("socket.io-client")).io;

// chromiumPath is where Debian's package puts the browser.
export const chromiumPath = "/usr/bin/chromium";

export function needChromium() {
  if (!existsSync(chromiumPath)) throw new Error(`no ${chromiumPath}; run: apt-get install -y chromium`);
}

export function needGo() {
  if (spawnSync("go", ["version"]).status !== 0) throw new Error("no go in PATH; run: apt-get install -y golang-go");
}
