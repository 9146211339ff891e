// fal's unmodified JavaScript client in Node, through a fetch and a WebSocket that come here.
//
// make serve
// npm install @fal-ai/client ws
// node examples/fal_javascript.mjs

import { fal } from "@fal-ai/client";
import WebSocket from "ws"; // Node 22 and browsers have one of their own

const SERVER = process.env.GLIMPSE_URL ?? "http://localhost:8000";
const KEY = process.env.FAL_KEY ?? "any";
const APP = "glimpse/miniature";

const here = (url) =>
  String(url)
    .replace("https://fal.run", SERVER)
    .replace("wss://fal.run", SERVER.replace("http", "ws"));

fal.config({
  credentials: KEY,
  fetch: (url, options) => fetch(here(url), options),
});
globalThis.WebSocket = class extends WebSocket {
  constructor(url, protocols) {
    super(here(url), protocols);
  }
};

const { data } = await fal.run(APP, { input: { prompt: "a windmill on green hills", seed: 7 } });
console.log("run:", data.image.width, "x", data.image.height);

const stream = await fal.stream(APP, { input: { prompt: "a windmill on green hills", seed: 7 } });
for await (const event of stream) {
  console.log("stream:", event.type, event.step, "of", event.steps);
}

// A short-lived token in place of the key, which a WebSocket of a browser could not send.
const tokenProvider = async (app) => {
  const answer = await fetch(`${SERVER}/tokens/realtime`, {
    method: "POST",
    headers: { authorization: `Key ${KEY}`, "content-type": "application/json" },
    body: JSON.stringify({ allowed_apps: [app], duration: 120 }),
  });
  return (await answer.json()).token;
};

const MESSAGES = [0, 1, 2].map((seed) => ({ prompt: "a red balloon over the sea", seed }));
await new Promise((resolve, reject) => {
  const connection = fal.realtime.connect(APP, {
    tokenProvider,
    onResult: (result) => {
      console.log("realtime:", result.image.content.length, "bytes of", result.seed);
      sendNext();
    },
    onError: reject, // also called when we close; by then nobody listens
  });
  const sendNext = () => {
    const message = MESSAGES.shift();
    if (message) {
      connection.send(message);
    } else {
      resolve();
      connection.close();
    }
  };
  sendNext();
});
