// A program of this module, built and run for a test.
import { spawn, spawnSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { needGo } from "./need.js";

const root = fileURLToPath(new URL("../..", import.meta.url));

// build compiles a folder of the module, such as "examples/browserchat", and returns the
// program: its path, and remove() for when it is no longer needed.
export function build(folder) {
  needGo();
  const dir = mkdtempSync(join(tmpdir(), "chat-e2e-"));
  const path = join(dir, "program");
  const { status, stderr } = spawnSync("go", ["build", "-o", path, "./" + folder], { cwd: root, encoding: "utf8" });
  if (status !== 0) throw new Error(`go build ./${folder}:\n${stderr}`);
  return { path, remove: () => rmSync(dir, { recursive: true }) };
}

// start runs a built program until it has printed an address, http://…, to open. The rest of
// what it says is in output. stop() interrupts it as Ctrl-C does, kill() as a crash would;
// both return its exit code once it has ended.
export async function start(program, args = ["-addr", "127.0.0.1:0"]) {
  const child = spawn(program.path, args, { stdio: ["ignore", "pipe", "pipe"] });
  const output = [];
  const ended = new Promise((resolve) => child.once("close", (code) => resolve(code)));
  const url = await new Promise((resolve, reject) => {
    child.once("error", reject);
    for (const stream of [child.stdout, child.stderr]) {
      createInterface({ input: stream }).on("line", (line) => {
        output.push(line);
        const found = /http:\/\/\S+/.exec(line);
        if (stream === child.stdout && found) resolve(found[0]);
      });
    }
    ended.then((code) => reject(new Error(`it ended with code ${code}: ${output.join("\n")}`)));
  });
  const end = (signal) => (child.exitCode === null && child.kill(signal), ended);
  return { url, port: Number(new URL(url).port), output, ended, stop: () => end("SIGINT"), kill: () => end("SIGKILL") };
}
