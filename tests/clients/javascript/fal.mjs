// fal's unmodified client, pointed at the server that GLIMPSE_URL names, in one of the ways there are:
// by its fetch, or by its proxyUrl. Prints what a call gave, as JSON; pictures in bytes as base64.
//
// node fal.mjs WAY CALL

import { fal } from "@fal-ai/client";
import WebSocket from "ws";

const [way, call] = process.argv.slice(2);
const server = process.env.GLIMPSE_URL;
const credentials = process.env.FAL_KEY; // the client's own default
const app = "glimpse/miniature";
const input = { prompt: "a red lighthouse by the sea at sunset", num_inference_steps: 12, seed: 7 };
const quick = { prompt: "a windmill on green hills", num_inference_steps: 2 };

const here = (url) =>
  String(url)
    .replace("https://rest.fal.ai", `${server}/rest`)
    .replace("https://fal.run", server)
    .replace("wss://fal.run", server.replace("http", "ws"));

fal.config(
  {
    fetch: { credentials, fetch: (url, options) => fetch(here(url), options) },
    proxy: { proxyUrl: { url: `${server}/api/fal/proxy`, when: "always" } },
  }[way],
);
const sockets = [];
globalThis.WebSocket = class extends WebSocket {
  constructor(url, protocols) {
    super(here(url), protocols);
    sockets.push(this);
  }
};

const failure = ({ name, status, message, fieldErrors, body }) => ({
  failure: { name, status, message, fieldErrors, body },
});

async function realtime(messages, options = {}) {
  // One after another, because while it connects the client keeps the newest message alone.
  const told = [];
  await new Promise((resolve) => {
    const waiting = [...messages];
    const next = (answer) => {
      if (answer) told.push(answer);
      if (waiting.length > 0) return connection.send(waiting.shift());
      resolve();
      connection.close();
    };
    const connection = fal.realtime.connect(app, {
      throttleInterval: 0,
      onResult: (result) => next({ result }),
      onError: (error) => told.length < messages.length && next(failure(error)),
      ...options,
    });
    next();
  });
  return told;
}

async function realtime_at_once() {
  const results = [];
  return new Promise((resolve) => {
    const connection = fal.realtime.connect(app, {
      throttleInterval: 0,
      onResult(result) {
        results.push(result);
        if (results.length === 1) send(4, 5, 6);
        if (results.length === 4) connection.close();
      },
      onError: (error) => resolve({ results, goodbye: failure(error) }),
    });
    const send = (...seeds) =>
      seeds.forEach((seed) => connection.send({ ...quick, seed, request_id: `r${seed}` }));
    send(1, 2, 3);
  });
}

async function realtime_idle() {
  // Two pictures, and between them the server ends the session.
  let [answered, errors] = [() => {}, []];
  const connection = fal.realtime.connect(app, {
    throttleInterval: 0,
    onResult: (result) => answered(result.type),
    onError: (error) => errors.push(failure(error)),
  });
  const ask = () =>
    new Promise((resolve) => {
      answered = resolve;
      connection.send(quick);
    });
  const types = [await ask()];
  const [socket] = sockets;
  const closed = await new Promise((resolve) =>
    socket.addEventListener("close", ({ code }) => resolve(code)),
  );
  types.push(await ask());
  const told = { types, closed, sockets: sockets.length, errors: [...errors] };
  connection.close();
  return told;
}

async function token() {
  const answer = await fetch(`${server}/tokens/realtime`, {
    method: "POST",
    headers: { authorization: `Key ${credentials}`, "content-type": "application/json" },
    body: JSON.stringify({ allowed_apps: [app], duration: 60 }),
  });
  return (await answer.json()).token;
}

const calls = {
  run: () => fal.run(app, { input }),
  refused_run: () => fal.run(app, { input: { ...input, sead: 1 } }).catch(failure),
  unknown_app: () => fal.run("glimpse/other", { input }).catch(failure),
  subscribe: () => fal.subscribe(app, { input }).catch(failure),
  run_with_blob: () =>
    fal.run(app, { input: { ...input, image_url: new Blob(["x"], { type: "image/png" }) } }).catch(failure),
  async stream() {
    const stream = await fal.stream(app, { input });
    const events = [];
    for await (const event of stream) events.push(event);
    return { events, done: await stream.done() };
  },
  async stream_with_token() {
    const options = { connectionMode: "client", tokenProvider: token };
    const stream = await fal.stream(app, { input, ...options });
    return stream.done();
  },
  refused_stream: () =>
    fal
      .stream(app, { input: { ...input, sead: 1 } })
      .then((stream) => stream.done())
      .catch(failure),
  realtime: () =>
    realtime([
      { ...quick, seed: 5, request_id: "r5" },
      { ...quick, sead: 1, request_id: "bad" },
      { seed: 3, request_id: "r3" },
    ]),
  realtime_at_once,
  realtime_idle,
  realtime_with_token: () => realtime([quick], { tokenProvider: token }),
  realtime_values: () =>
    realtime([
      {
        prompt: "schön 🎈",
        negative_prompt: undefined,
        seed: 4294967295,
        guidance_scale: 4.5,
        num_inference_steps: 2.0,
        image_size: { width: 64, height: 64 },
        stream_previews: false,
      },
    ]),
  realtime_with_picture: () =>
    realtime([{ ...quick, image: new Uint8Array(Buffer.from(process.env.PICTURE, "base64")) }]),
};

function readable(name, value) {
  const bytes = this[name]; // and not what toJSON, where there is one, made of them
  return bytes instanceof Uint8Array ? Buffer.from(bytes).toString("base64") : value;
}

const said = JSON.stringify(await calls[call](), readable);
process.stdout.write(`${said}\n`);
