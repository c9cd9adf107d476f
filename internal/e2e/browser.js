// Chromium for one test file, and pages in it that keep what went wrong in them.
import { chromium, chromiumPath, needChromium } from "./need.js";

// launch starts a Chromium with a profile of its own, thrown away by browser.close().
export async function launch() {
  needChromium();
  return chromium.launch({
    executablePath: chromiumPath,
    headless: true,
    // A page that is left may be kept and come back, as in anybody's browser.
    ignoreDefaultArgs: ["--disable-back-forward-cache"],
    args: [
      "--headless",
      "--no-sandbox",
      "--disable-gpu",
      "--disable-quic",
      "--no-first-run",
      "--disable-background-networking",
      "--disable-component-update",
      "--disable-sync",
      // The last of these flags counts, so what the driver switches off is here again, and the
      // address bar's popups, each a process for every window.
      "--disable-features=" + [
        "AvoidUnnecessaryBeforeUnloadCheckSync", "DestroyProfileOnBrowserClose", "HttpsUpgrades", "HttpsFirstBalancedModeAutoEnable",
        "PaintHolding", "OptimizationHints", "NetworkTimeServiceQuerying", "AimEnabled", "PreconnectToSearch", "MediaRouter",
        "LensOverlay", "WebUIOmniboxPopup", "WebUIOmniboxAimPopup", "WebUIOmniboxFullPopup",
      ].join(),
    ],
  });
}

// open gives a page of a fresh browser context, as a second browser would be. What the page
// throws or the browser refuses (a policy broken, a script missing) is in page.wrong; failed
// requests are not, for networks here are broken on purpose.
export async function open(browser, url, options = {}) {
  const { init, ...contextOptions } = options;
  const context = await browser.newContext(contextOptions);
  context.setDefaultTimeout(20_000);
  const page = await context.newPage();
  page.wrong = [];
  page.on("pageerror", (error) => page.wrong.push(String(error)));
  page.on("console", (message) => {
    if (message.type() === "error" && !/net::ERR_|Failed to load resource|WebSocket connection to/.test(message.text())) {
      page.wrong.push(message.text());
    }
  });
  await page.addInitScript(() => {
    // next(emitter, event) is a promise of the arguments of the next such event.
    globalThis.next = (emitter, event) => new Promise((resolve) => emitter.once(event, (...args) => resolve(args)));
  });
  if (init) await page.addInitScript(init);
  await page.goto(url);
  return page;
}

// A Pool keeps pages for the next test, for a new one takes a second. Each is a browser of its own.
export class Pool {
  #browser;
  #idle = [];

  constructor(browser) {
    this.#browser = browser;
  }

  async open(url) {
    const page = this.#idle.pop() ?? (await open(this.#browser, "about:blank"));
    await page.goto(url);
    return page;
  }

  // keep takes a page back, and returns what went wrong in it.
  async keep(page) {
    if (!page.isClosed()) {
      await page.goto("about:blank");
      this.#idle.push(page);
    }
    return page.wrong.splice(0);
  }
}

// closeTab closes a page as a user does, so that it hears "pagehide", and waits until it is gone.
export async function closeTab(page) {
  const gone = new Promise((resolve) => page.once("close", resolve));
  await page.close({ runBeforeUnload: true });
  await gone;
}
