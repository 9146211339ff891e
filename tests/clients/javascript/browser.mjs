// What the page of the browser example does not show: `requestId`, and a session over the browser's
// own WebSocket. esbuild makes it a script for a page.

import { fal } from "@fal-ai/client";

const app = "glimpse/miniature";
const input = { prompt: "a windmill on green hills", num_inference_steps: 2, seed: 7 };

globalThis.pointTo = (server) => {
  fal.config({ proxyUrl: `${server}/api/fal/proxy` });
  globalThis.WebSocket = class extends WebSocket {
    constructor(url, protocols) {
      super(url.replace("wss://fal.run", server.replace("http", "ws")), protocols);
    }
  };
};

globalThis.run = async () => {
  const { data, requestId } = await fal.run(app, { input: { ...input, request_id: "r1" } });
  return [data.type, requestId];
};

globalThis.realtime = () =>
  new Promise((resolve, reject) => {
    const connection = fal.realtime.connect(app, {
      onResult({ type, seed, image }) {
        resolve([type, seed, image.content instanceof Uint8Array, [...image.content.slice(0, 3)]]);
        connection.close();
      },
      onError: reject,
    });
    connection.send(input);
  });
